//! The packed convolution against plain float64 loops.

mod epilogues;

use candle_core::{Device, Tensor};
use cnn_kernels::{Epilogue, PackedConv2d, SimdLevel};

fn values(tensor: &Tensor) -> Vec<f64> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f64::from).collect()
}

/// `[N, C, H, W]` with `[outputs, C, kernel height, kernel width]`, both in row-major order.
fn convolve(
    xs: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    (pad_y, pad_x): (usize, usize),
) -> (Vec<f64>, [usize; 4]) {
    let (n, channels, height, width) = xs.dims4().unwrap();
    let (outputs, _, kernel_y, kernel_x) = weight.dims4().unwrap();
    let (out_y, out_x) =
        ((height + 2 * pad_y - kernel_y) / stride + 1, (width + 2 * pad_x - kernel_x) / stride + 1);
    let (xs, weight, bias) = (values(xs), values(weight), values(bias));
    let mut result = Vec::new();
    for image in 0..n {
        for output in 0..outputs {
            for (y, x) in (0..out_y).flat_map(|y| (0..out_x).map(move |x| (y, x))) {
                let mut sum = bias[output];
                for (c, ky, kx) in (0..channels)
                    .flat_map(|c| (0..kernel_y).flat_map(move |ky| (0..kernel_x).map(move |kx| (c, ky, kx))))
                {
                    let (y, x) = ((y * stride + ky).checked_sub(pad_y), (x * stride + kx).checked_sub(pad_x));
                    let (Some(y), Some(x)) = (y, x) else { continue };
                    if y < height && x < width {
                        let w = weight[((output * channels + c) * kernel_y + ky) * kernel_x + kx];
                        sum += w * xs[((image * channels + c) * height + y) * width + x];
                    }
                }
                result.push(sum);
            }
        }
    }
    (result, [n, outputs, out_y, out_x])
}

fn assert_close(actual: &Tensor, expected: &[f64], shape: [usize; 4], what: &str) {
    assert_eq!(actual.dims(), shape, "{what}");
    let scale = expected.iter().fold(1f64, |max, e| max.max(e.abs()));
    for (a, e) in values(actual).iter().zip(expected) {
        assert!((a - e).abs() < 1e-5 * scale, "{what}: {a} for {e}");
    }
}

/// One test for all, because the level is the whole process's.
#[test]
fn convolutions_agree_with_float64_loops_at_every_simd_level() {
    // N, channels, height, width, outputs, kernel, stride, padding
    let cases = [
        (5, 3, 32, 32, 16, (3, 3), 1, (1, 1)),
        (3, 16, 9, 7, 32, (3, 3), 2, (1, 1)),
        (1, 64, 8, 8, 64, (3, 3), 1, (1, 1)), // more than one stretch of taps
        (9, 5, 2, 2, 17, (3, 3), 1, (1, 1)),  // a panel that is not full, many images a task
        (2, 4, 40, 33, 8, (7, 7), 2, (3, 3)),
        (1, 2, 150, 200, 16, (3, 3), 1, (1, 1)), // an image that is split
        (3, 24, 11, 6, 20, (3, 3), 1, (1, 1)),   // tiles that reach beyond the image
        (2, 17, 7, 9, 33, (3, 3), 1, (0, 0)),
        (40, 16, 2, 1, 16, (3, 3), 1, (1, 1)),
        (2, 20, 30, 70, 16, (3, 3), 1, (1, 0)),
        (2, 24, 6, 6, 20, (1, 1), 1, (0, 0)),
        (2, 6, 8, 9, 10, (1, 7), 1, (0, 3)),
        (2, 6, 8, 9, 10, (7, 1), 1, (3, 0)),
        (1, 1, 3, 3, 1, (3, 3), 1, (0, 0)),
        (0, 3, 8, 8, 4, (3, 3), 1, (1, 1)),
    ];
    for level in SimdLevel::available() {
        SimdLevel::force(level).unwrap();
        for (n, channels, height, width, outputs, kernel, stride, padding) in cases {
            let what = format!("{level}: {channels} channels of {height}×{width}, kernel {kernel:?}");
            let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
            let xs = random(&[n, channels, height, width]);
            let weight = random(&[outputs, channels, kernel.0, kernel.1]);
            let bias = random(&[outputs]);
            let conv = PackedConv2d::new(&weight, &bias, stride, padding).unwrap();
            let (expected, shape) = convolve(&xs, &weight, &bias, stride, padding);
            let ys = conv.forward(&xs, None).unwrap();
            assert_close(&ys, &expected, shape, &what);
            let direct = PackedConv2d::direct(&weight, &bias, stride, padding).unwrap();
            assert_close(&direct.forward(&xs, None).unwrap(), &expected, shape, &what);

            // Any strides in, and a residual.
            let channels_last = xs.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
            let channels_last = channels_last.permute((0, 3, 1, 2)).unwrap();
            let residual = random(&shape);
            let ys = conv.forward(&channels_last, Some(&residual)).unwrap();
            let expected: Vec<f64> = expected.iter().zip(values(&residual)).map(|(e, r)| e + r).collect();
            assert_close(&ys, &expected, shape, &what);

            // An epilogue gives the same in the convolution as after it, and sees what goes into it.
            for epilogue in epilogues::all() {
                let fused = conv.forward_with(&channels_last, Some(&residual), &epilogue).unwrap();
                assert_eq!(fused.stride(), ys.stride(), "{what}");
                let mut after: Vec<f32> = ys.flatten_all().unwrap().to_vec1().unwrap();
                let range = epilogue.apply_in_place(&mut after);
                let fused: Vec<f32> = fused.flatten_all().unwrap().to_vec1().unwrap();
                assert_eq!(fused, after, "{}, {what}", epilogue.name);
                assert_eq!(epilogue.take(), range, "{}, {what}", epilogue.name);
            }
        }
    }
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let weight = Tensor::ones((4, 3, 3, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    let bias = Tensor::zeros(4, candle_core::DType::F32, &Device::Cpu).unwrap();
    let conv = PackedConv2d::new(&weight, &bias, 1, (0, 0)).unwrap();
    let zeros = |shape: (usize, usize, usize, usize)| {
        Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap()
    };
    for shape in [(1, 4, 8, 8), (1, 3, 2, 8)] {
        let error = conv.forward(&zeros(shape), None).unwrap_err().to_string();
        assert!(error.contains("a convolution of 3 channels with kernel 3×3"), "{error}");
    }
    let error = conv.forward(&zeros((1, 3, 8, 8)), Some(&zeros((1, 4, 8, 8)))).unwrap_err().to_string();
    assert!(error.contains("shape mismatch"), "{error}");
    assert!(PackedConv2d::new(&weight.to_dtype(candle_core::DType::F64).unwrap(), &bias, 1, (0, 0)).is_err());
}
