//! Average pooling against sums written out.

use candle_core::{Device, Tensor};
use cnn_kernels::{SimdLevel, avg_pool_3x3};

#[test]
fn windows_reach_over_the_border_into_zeros() -> Result<(), Box<dyn std::error::Error>> {
    // Two images of two channels, 3×4 pixels, held against a sum written out.
    let (n, c, h, w) = (2, 2, 3, 4);
    let xs: Vec<f32> = (0..n * c * h * w).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
    let at = |i: usize, y: isize, x: isize| match (0..h as isize).contains(&y) && (0..w as isize).contains(&x)
    {
        true => f64::from(xs[i * h * w + y as usize * w + x as usize]),
        false => 0.0,
    };
    let tensor = Tensor::from_slice(&xs, (n, c, h, w), &Device::Cpu)?;
    for level in SimdLevel::available() {
        SimdLevel::force(level)?;
        let ys: Vec<f32> = avg_pool_3x3(&tensor)?.flatten_all()?.to_vec1()?;
        for (j, y) in ys.iter().enumerate() {
            let (i, py, px) = (j / (h * w), (j / w % h) as isize, (j % w) as isize);
            let window = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (py + dy, px + dx)));
            let expected: f64 = window.map(|(y, x)| at(i, y, x)).sum::<f64>() / 9.0;
            assert!((f64::from(*y) - expected).abs() < 1e-6 * 50.0, "{level} {j}: {y} {expected}");
        }
    }
    Ok(())
}
