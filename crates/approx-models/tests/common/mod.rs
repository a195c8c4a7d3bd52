//! Hashed weights: tests/golden/README.md.

fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn uniform(seed: u64, i: usize) -> f64 {
    let mut z = seed.wrapping_add(i as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f64 / (1u64 << 24) as f64
}

/// The values of the tensor `name` of a network whose residual blocks end in the batch norm `last_norm`.
pub fn hashed(name: &str, shape: &[usize], last_norm: &str) -> Vec<f32> {
    let fan_in: usize = shape.iter().skip(1).product();
    let value = |u: f64| match name.rsplit('.').next().unwrap() {
        "input" => 4.0 * u - 2.0,
        "running_var" => 0.75 + 0.5 * u,
        "running_mean" | "bias" => 0.1 * (2.0 * u - 1.0),
        "weight" if shape.len() == 1 => {
            let last_of_block = name.starts_with("layer") && name.ends_with(&format!("{last_norm}.weight"));
            (0.75 + 0.5 * u) * if last_of_block { 0.25 } else { 1.0 }
        }
        "weight" => (2.0 * u - 1.0) * (4.0 / fan_in as f64).sqrt(),
        other => panic!("no rule for {other}"),
    };
    let seed = fnv1a(&format!("dev:{name}"));
    (0..shape.iter().product()).map(|i| value(uniform(seed, i)) as f32).collect()
}
