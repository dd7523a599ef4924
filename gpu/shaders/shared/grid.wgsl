// Dispatches longer than one dimension allows are laid over two: the host's `Batch::dispatch_rows`.

// The number of this workgroup, in the order of a dispatch of one dimension. The last row of the grid may hold more groups than there is work: check
// the number against the count.
fn group_number(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>) -> u32 {
    return workgroup_id.y * num_workgroups.x + workgroup_id.x;
}
