//! Average pooling and its gradient against sums written out in float64.

use candle_core::{Device, Tensor};
use cnn_kernels::{Padding, PoolSpec, SimdLevel, avg_pool, avg_pool_gradient};

fn values(tensor: &Tensor) -> Vec<f64> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f64::from).collect()
}

/// The means of a plane's windows, and the gradient of `Σ g · mean`.
fn truth(
    spec: &PoolSpec,
    include_pad: bool,
    xs: &[f64],
    gradient: &[f64],
    [height, width]: [usize; 2],
) -> (Vec<f64>, Vec<f64>) {
    let ([rows, columns], [step_y, step_x], padding) = (spec.kernel(), spec.stride(), spec.padding());
    let (out_height, out_width) = spec.output_size(height, width).unwrap();
    let (mut means, mut back) = (Vec::new(), vec![0.0; xs.len()]);
    for (out_y, out_x) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
        let (mut inside, mut count) = (Vec::new(), 0);
        for (ky, kx) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
            let (y, x) = (out_y * step_y + ky, out_x * step_x + kx);
            let is_padded =
                y < padding.top + height + padding.bottom && x < padding.left + width + padding.right;
            let (y, x) = (y.wrapping_sub(padding.top), x.wrapping_sub(padding.left));
            let is_inside = y < height && x < width;
            if is_inside {
                inside.push(y * width + x);
            }
            count += usize::from(if include_pad { is_padded } else { is_inside });
        }
        let g = gradient[means.len()];
        means.push(inside.iter().map(|&i| xs[i]).sum::<f64>() / count as f64);
        inside.iter().for_each(|&i| back[i] += g / count as f64);
    }
    (means, back)
}

/// One test for all, because the level is the whole process's.
#[test]
fn means_and_gradients_agree_with_float64_loops_at_every_simd_level() {
    let uneven = Padding { top: 0, bottom: 1, left: 1, right: 0 };
    let specs = [
        PoolSpec::new(3, 1, 1).unwrap(),
        PoolSpec::new(2, 2, 0).unwrap(),
        PoolSpec::new(2, 2, 0).unwrap().with_ceil_mode(true),
        PoolSpec::new(7, 1, 0).unwrap(),
        PoolSpec::new(5, 3, 2).unwrap().with_ceil_mode(true),
        PoolSpec::new(1, 2, 0).unwrap(),
        PoolSpec::rectangular([2, 3], [3, 1], uneven).unwrap(),
        PoolSpec::rectangular([3, 2], [2, 3], uneven).unwrap().with_ceil_mode(true),
    ];
    for level in SimdLevel::available() {
        SimdLevel::force(level).unwrap();
        for (spec, include_pad) in specs.iter().flat_map(|spec| [(spec, true), (spec, false)]) {
            for (n, channels, size) in [(2, 3, [7, 8]), (1, 19, [9, 7]), (0, 2, [8, 8])] {
                let what = format!("{level}, {spec:?}, include_pad {include_pad}, {n}×{channels}×{size:?}");
                let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
                let xs = random(&[n, channels, size[0], size[1]]);
                let ys = avg_pool(&xs, spec, include_pad).unwrap();
                let (height, width) = spec.output_size(size[0], size[1]).unwrap();
                assert_eq!(ys.dims(), [n, channels, height, width], "{what}");
                let gradient = random(ys.dims());
                let back = avg_pool_gradient(&gradient, size, spec, include_pad).unwrap();
                assert_eq!(back.dims(), xs.dims(), "{what}");
                let (mut means, mut expected) = (Vec::new(), Vec::new());
                let (xs, gradients) = (values(&xs), values(&gradient));
                for (xs, gradient) in xs.chunks(size[0] * size[1]).zip(gradients.chunks(height * width)) {
                    let (of_plane, back) = truth(spec, include_pad, xs, gradient, size);
                    means.extend(of_plane);
                    expected.extend(back);
                }
                for (a, e) in values(&ys).iter().zip(&means).chain(values(&back).iter().zip(&expected)) {
                    assert!((a - e).abs() < 2e-6 * 5.0, "{what}: {a}, not {e}");
                }
            }
        }
    }
}

#[test]
fn windows_that_do_not_fit_are_named() {
    let xs = Tensor::zeros((1, 1, 4, 9), candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = avg_pool(&xs, &PoolSpec::new(7, 1, 1).unwrap(), true).unwrap_err().to_string();
    assert!(error.contains("kernel 7×7 and padding 1×1 has no window in an image of 4×9"), "{error}");
    let spec = PoolSpec::new(2, 2, 0).unwrap();
    assert!(avg_pool_gradient(&xs, [9, 9], &spec, true).unwrap_err().to_string().contains("mismatch"));
}
