// What becomes of the sums of a layer: `Activation` of src/cpu/gemm.rs, number by number. Built-in `exp` and `tanh` may be off by far more than these.

fn exp_of_negative(x: f32) -> f32 {
    let held = max(x, -87.0);
    // Not by adding and taking away a large number, as the twin does: drivers take a + b - b for a.
    let whole = round(held * 1.44269504);
    let rest = held - whole * 0.693359375 - whole * -2.1219444e-4;
    var sum = 1.9875691e-4;
    sum = sum * rest + 1.3981999e-3;
    sum = sum * rest + 8.333452e-3;
    sum = sum * rest + 4.1665796e-2;
    sum = sum * rest + 1.6666666e-1;
    sum = sum * rest + 0.5;
    let near_one = sum * rest * rest + rest + 1.0;
    let scale = bitcast<f32>(u32(i32(whole) + 127) << 23u);
    return select(near_one * scale, 0.0, x < -87.0);
}

fn sigmoid(x: f32) -> f32 {
    let e = exp_of_negative(-abs(x));
    return select(1.0, e, x < 0.0) / (1.0 + e);
}

fn hyperbolic_tangent(x: f32) -> f32 {
    let square = x * x;
    var sum = -5.7049887e-3;
    sum = sum * square + 2.0639089e-2;
    sum = sum * square + -5.3739716e-2;
    sum = sum * square + 1.3331442e-1;
    sum = sum * square + -3.3333283e-1;
    let near = sum * square * x + x;
    let e = exp_of_negative(-2.0 * abs(x));
    let far = (1.0 - e) / (1.0 + e);
    return select(select(far, -far, x < 0.0), near, abs(x) < 0.625);
}

fn gelu(x: f32) -> f32 {
    let z = abs(x) * 0.70710678;
    let t = 1.0 / (1.0 + 0.5 * z);
    var sum = 0.15775101;
    sum = sum * t + -0.75018156;
    sum = sum * t + 1.318653;
    sum = sum * t + -0.9097407;
    sum = sum * t + 0.09432143;
    sum = sum * t + -0.09025566;
    sum = sum * t + 0.06523265;
    sum = sum * t + 0.38035414;
    sum = sum * t + 0.9993481;
    sum = sum * t + -1.2654823;
    let beyond = 0.5 * t * exp_of_negative(sum - z * z);
    return x * select(1.0 - beyond, beyond, x < 0.0);
}

// The codes are the order of `Activation::ALL`.
fn activate(code: u32, x: f32) -> f32 {
    switch code {
        case 1u: { return select(x, 0.0, x < 0.0); }
        case 2u: { return gelu(x); }
        case 3u: { return x * sigmoid(1.5957691 * (x + 0.044715 * x * x * x)); }
        case 4u: { return x * sigmoid(x); }
        case 5u: { return sigmoid(x); }
        case 6u: { return hyperbolic_tangent(x); }
        default: { return x; }
    }
}
