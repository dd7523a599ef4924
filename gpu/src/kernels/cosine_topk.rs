//! Host side of `shaders/cosine_topk.wgsl`: similarities by `shaders/gemm.wgsl`, tile by tile, and of each tile the best.

use super::gemm::{Product, count};
use crate::cpu::cosine_topk::{Nearest, Neighbour, UnitRows, cosine_topk as on_cpu};
use crate::shaders::cosine_topk::SELECT_BEST;
use crate::{Device, Gpu, GpuError, Ran};

/// Looks for the nearest `candidates` of each of `queries` on a device, as [`crate::cpu::cosine_topk::cosine_topk`] does.
///
/// # Panics
/// If rows are not as many as numbers, or as deep as each other.
pub fn cosine_topk(device: &Device, queries: UnitRows<'_>, candidates: UnitRows<'_>, nearest: &mut Nearest) -> Ran {
    let (k, least) = (nearest.k(), nearest.least());
    let (found, ran) = device.run(|gpu| find(gpu, queries, candidates, k, least).map(Some), || None);
    match found {
        Some(found) => found.into_iter().for_each(|(query, neighbour)| nearest.add(query, neighbour)),
        None => on_cpu(queries, candidates, nearest),
    }
    ran
}

/// Candidates of a tile.
const CANDIDATES: usize = 8192;

/// Query and neighbour, each as often as it was found.
fn find(gpu: &Gpu, queries: UnitRows<'_>, candidates: UnitRows<'_>, k: usize, least: f32) -> Result<Vec<(usize, Neighbour)>, GpuError> {
    assert_eq!(queries.rows.depth(), candidates.rows.depth(), "the depths of queries and candidates");
    let mut all = Vec::new();
    if k == 0 {
        return Ok(all);
    }
    let most = gpu.limits().rows("a vector (bytes)", 4 * candidates.rows.stride() as u64)?.min(CANDIDATES);
    for first in (0..candidates.rows.len()).step_by(most) {
        let n = most.min(candidates.rows.len() - first);
        let (others, numbers) = (candidates.rows.slice(first, n), &candidates.numbers[first..first + n]);
        let b = gpu.resident(others.numbers())?;
        let row_bytes = 4 * queries.rows.stride().max(n).max(2 * k) as u64;
        let most = gpu.limits().rows("the similarities of a row (bytes)", row_bytes)?;
        let starts: Vec<usize> = (0..queries.rows.len()).step_by(most).collect();
        let found = gpu.in_pieces(
            &starts,
            1,
            |batch, piece| {
                let start = piece[0];
                let rows = queries.rows.slice(start, most.min(queries.rows.len() - start));
                let m = rows.len();
                let own: Vec<u32> = queries.numbers[start..start + m]
                    .iter()
                    .map(|number| numbers.binary_search(number).ok().and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX))
                    .collect();
                let a = batch.upload(rows.numbers())?;
                let similarities = batch.empty::<f32>(m * n)?;
                let product = Product {
                    rows: count(m)?,
                    width: count(n)?,
                    depth: count(rows.depth())?,
                    a_start: 0,
                    a_stride: count(rows.stride())?,
                    b_stride: count(others.stride())?,
                    out_start: 0,
                    out_stride: count(n)?,
                };
                product.record(batch, &a, &b, &similarities)?;
                // `Selection` of the shader.
                let selection = batch.upload(&[count(m)?, count(n)?, count(k)?, least.to_bits()])?;
                let own = batch.upload(&own)?;
                let (found, counts) = (batch.empty::<[u32; 2]>(m * k)?, batch.empty::<u32>(m)?);
                batch.dispatch_rows(&SELECT_BEST, &[], &[&selection, &similarities, &own, &found, &counts], m)?;
                Ok((start, batch.download::<[u32; 2]>(&found, m * k)?, batch.download::<u32>(&counts, m)?))
            },
            |(start, found, counts), results, all| {
                let (found, counts) = (results.get(found)?, results.get(counts)?);
                for ((query, found), count) in (start..).zip(found.chunks_exact(k)).zip(counts) {
                    for [candidate, bits] in found.iter().take(count as usize) {
                        // What a driver that is at fault may say is no reason to panic.
                        let number = numbers.get(*candidate as usize);
                        let number = *number.ok_or_else(|| GpuError::Internal { problem: format!("candidate {candidate} of {n}") })?;
                        all.push((query, Neighbour { similarity: f32::from_bits(*bits), number }));
                    }
                }
                Ok(())
            },
        )?;
        all.extend(found);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use crate::cpu::cosine_topk::cosine_topk_plain;
    use crate::cpu::cosine_topk::tests::{Table, random};
    use crate::cpu::gemm::dot;
    use crate::shaders::cosine_topk::SELECTION_LAYOUT;
    use crate::twins::{Tolerance, adapter, assert_twins, open_within};

    /// Sums of up to 384 products of numbers of the order of 0.05. Measured on lavapipe: 7.8e-7 at most.
    const NEAR: Tolerance = Tolerance::Near { most: 2e-6, unit: "of a cosine", reason: "sums in another order, unfused" };

    fn compare(device: &Device, table: &Table, k: usize, least: f32) {
        let case = format!("{} rows, k {k}, at least {least}", table.numbers.len());
        let (mut plain, mut other) = (Nearest::new(table.numbers.len(), k, least), Nearest::new(table.numbers.len(), k, least));
        cosine_topk_plain(table.rows(), table.rows(), &mut plain);
        assert_eq!(cosine_topk(device, table.rows(), table.rows(), &mut other), Ran::Gpu, "{case}");
        let (plain, other) = (plain.into_lists(), other.into_lists());
        let similarities = |lists: &[Vec<Neighbour>]| lists.iter().flatten().map(|found| found.similarity).collect::<Vec<_>>();
        assert_eq!(plain.iter().map(Vec::len).collect::<Vec<_>>(), other.iter().map(Vec::len).collect::<Vec<_>>(), "{case}");
        assert_twins(&case, &similarities(&plain), &similarities(&other), NEAR);
        // Where two are as near as rounding tells, either may be found; what is found is as near as is said.
        let row = |number: u64| table.rows().rows.row(table.numbers.binary_search(&number).unwrap());
        let mut own = Vec::new();
        for (query, list) in table.numbers.iter().zip(&other) {
            let mut seen: Vec<u64> = list.iter().map(|found| found.number).collect();
            own.extend(seen.iter().map(|number| dot(row(*query), row(*number)).clamp(-1.0, 1.0)));
            seen.sort_unstable();
            seen.dedup();
            assert!(seen.len() == list.len() && !seen.contains(query), "{case}: row {query} has {list:?}");
        }
        assert_twins(&case, &own, &similarities(&other), NEAR);
    }

    #[test]
    fn neighbours_are_those_of_the_twin() {
        if adapter().is_none() {
            return;
        }
        let device = open_within(None).unwrap();
        for (n, depth) in [(0, 3), (1, 3), (2, 1), (65, 17), (300, 24), (700, 384)] {
            let table = Table::new(depth, &random(n, depth, n as u64));
            for (k, least) in [(1, -1.0), (7, -1.0), (20, 0.2), (1000, -1.0)] {
                compare(&device, &table, k, least);
            }
        }
    }

    #[test]
    fn ties_go_to_the_lower_number() {
        if adapter().is_none() {
            return;
        }
        let device = open_within(None).unwrap();
        let table = Table::new(3, &vec![vec![1.0, 2.0, 3.0]; 600]);
        let mut nearest = Nearest::new(600, 3, 0.0);
        assert_eq!(cosine_topk(&device, table.rows(), table.rows(), &mut nearest), Ran::Gpu);
        let lists = nearest.into_lists();
        let numbers = |row: usize| lists[row].iter().map(|found| found.number).collect::<Vec<_>>();
        assert_eq!((numbers(0), numbers(1), numbers(599)), (vec![1, 2, 3], vec![0, 2, 3], vec![0, 1, 2]));
    }

    #[test]
    fn low_limits_make_pieces_of_queries_and_of_candidates() {
        let limits = Limits { max_binding_bytes: 8192, max_workgroups: 10, max_workgroup_lanes: 32, max_shared_bytes: 16_384 };
        let Some(device) = open_within(Some(&limits)) else { return };
        // 102 candidates of 20 numbers at a time, and 20 queries of as many similarities.
        compare(&device, &Table::new(20, &random(230, 20, 5)), 6, -1.0);
    }

    #[test]
    fn a_device_that_is_lost_ends_on_the_twin_and_finds_nothing_twice() {
        let limits = Limits { max_binding_bytes: 8192, max_workgroups: 64, max_workgroup_lanes: 64, max_shared_bytes: 16_384 };
        let Some(device) = open_within(Some(&limits)) else { return };
        device.gpu().unwrap().lose_after(9);
        let table = Table::new(20, &random(230, 20, 5));
        let (mut plain, mut other) = (Nearest::new(table.numbers.len(), 6, -1.0), Nearest::new(table.numbers.len(), 6, -1.0));
        cosine_topk_plain(table.rows(), table.rows(), &mut plain);
        assert!(matches!(cosine_topk(&device, table.rows(), table.rows(), &mut other), Ran::FellBack(_)));
        assert_eq!(plain.into_lists(), other.into_lists());
    }

    #[test]
    fn structs_lie_where_the_host_puts_them() {
        assert_eq!(SELECTION_LAYOUT.bytes, 16);
        assert_eq!(SELECTION_LAYOUT.members, &[("rows", 0), ("candidates", 4), ("k", 8), ("least", 12)][..]);
    }
}
