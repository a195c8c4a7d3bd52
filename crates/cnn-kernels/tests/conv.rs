//! The packed convolution against plain float64 loops.

mod epilogues;
mod geometries;

use candle_core::{Device, Tensor};
use cnn_kernels::{ConvGeometry, Epilogue, PackedConv2d, Padding, SimdLevel};
use geometries::geometry;
use proptest::prelude::*;

fn values(tensor: &Tensor) -> Vec<f64> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f64::from).collect()
}

/// The convolution and its shape, in row-major order.
fn convolve(xs: &Tensor, weight: &Tensor, bias: &Tensor, geometry: &ConvGeometry) -> (Vec<f64>, [usize; 4]) {
    let (n, channels, height, width) = xs.dims4().unwrap();
    let ConvGeometry { outputs, kernel: [kernel_y, kernel_x], stride, dilation, padding, groups, .. } =
        *geometry;
    let rows = height + padding.top + padding.bottom - (kernel_y - 1) * dilation[0] - 1;
    let columns = width + padding.left + padding.right - (kernel_x - 1) * dilation[1] - 1;
    let (out_y, out_x) = (rows / stride[0] + 1, columns / stride[1] + 1);
    let (xs, weight, bias) = (values(xs), values(weight), values(bias));
    let inputs = channels / groups;
    let mut result = Vec::new();
    for image in 0..n {
        for output in 0..outputs {
            let first = output / (outputs / groups) * inputs;
            for (y, x) in (0..out_y).flat_map(|y| (0..out_x).map(move |x| (y, x))) {
                let mut sum = bias[output];
                for (c, ky, kx) in (0..inputs)
                    .flat_map(|c| (0..kernel_y).flat_map(move |ky| (0..kernel_x).map(move |kx| (c, ky, kx))))
                {
                    let y = (y * stride[0] + ky * dilation[0]).checked_sub(padding.top);
                    let x = (x * stride[1] + kx * dilation[1]).checked_sub(padding.left);
                    let (Some(y), Some(x)) = (y, x) else { continue };
                    if y < height && x < width {
                        let w = weight[((output * inputs + c) * kernel_y + ky) * kernel_x + kx];
                        sum += w * xs[((image * channels + first + c) * height + y) * width + x];
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
        (5, 3, 32, 32, 16, [3, 3], 1, (1, 1)),
        (3, 16, 9, 7, 32, [3, 3], 2, (1, 1)),
        (1, 64, 8, 8, 64, [3, 3], 1, (1, 1)), // more than one stretch of taps
        (9, 5, 2, 2, 17, [3, 3], 1, (1, 1)),  // a panel that is not full, many images a task
        (2, 4, 40, 33, 8, [7, 7], 2, (3, 3)),
        (1, 2, 150, 200, 16, [3, 3], 1, (1, 1)), // an image that is split
        (3, 24, 11, 6, 20, [3, 3], 1, (1, 1)),   // tiles that reach beyond the image
        (2, 17, 7, 9, 33, [3, 3], 1, (0, 0)),
        (40, 16, 2, 1, 16, [3, 3], 1, (1, 1)),
        (2, 20, 30, 70, 16, [3, 3], 1, (1, 0)),
        (2, 24, 6, 6, 20, [1, 1], 1, (0, 0)),
        (2, 6, 8, 9, 10, [1, 7], 1, (0, 3)),
        (2, 6, 8, 9, 10, [7, 1], 1, (3, 0)),
        (1, 1, 3, 3, 1, [3, 3], 1, (0, 0)),
        (0, 3, 8, 8, 4, [3, 3], 1, (1, 1)),
    ];
    let cases = cases.map(|(n, inputs, height, width, outputs, kernel, stride, (rows, columns))| {
        let geometry = ConvGeometry::new(inputs, outputs, kernel).with_stride([stride; 2]);
        (n, [height, width], geometry.with_padding(Padding::symmetric(rows, columns)))
    });
    let general = geometries::table();
    let random = cases.into_iter().chain(general).collect::<Vec<_>>();
    for level in SimdLevel::available() {
        SimdLevel::force(level).unwrap();
        for (n, size, geometry) in &random {
            check(*n, *size, geometry, &level.to_string());
        }
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
        let any = runner.run(&geometry(), |(size, geometry)| {
            check(2, size, &geometry, &level.to_string());
            Ok(())
        });
        any.unwrap();
    }
}

fn check(n: usize, [height, width]: [usize; 2], geometry: &ConvGeometry, level: &str) {
    let what = format!("{level}: {n} images of {height}×{width}, {geometry:?}");
    let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
    let xs = random(&[n, geometry.inputs, height, width]);
    let weight = random(&geometry.weight_shape());
    let bias = random(&[geometry.outputs]);
    let conv = PackedConv2d::new(&weight, &bias, *geometry).unwrap();
    let (expected, shape) = convolve(&xs, &weight, &bias, geometry);
    let ys = conv.forward(&xs, None).unwrap();
    assert_close(&ys, &expected, shape, &what);
    let direct = PackedConv2d::direct(&weight, &bias, *geometry).unwrap();
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

#[test]
fn what_does_not_fit_is_named_with_its_numbers() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    let (weight, bias) = (zeros(&[4, 3, 3, 3]), zeros(&[4]));
    let geometry = ConvGeometry::of_weight(&weight).unwrap();
    let conv = PackedConv2d::new(&weight, &bias, geometry).unwrap();
    for shape in [[1, 4, 8, 8], [1, 3, 2, 8]] {
        let error = conv.forward(&zeros(&shape), None).unwrap_err().to_string();
        assert!(error.contains("a convolution of 3 to 4 channels with kernel 3×3"), "{error}");
        assert!(error.contains(&format!("{shape:?}")), "{error}");
    }
    let dilated = PackedConv2d::new(&weight, &bias, geometry.with_dilation([4, 1])).unwrap();
    let error = dilated.forward(&zeros(&[1, 3, 8, 8]), None).unwrap_err().to_string();
    assert!(error.contains("dilation 4×1 does not take an input of [1, 3, 8, 8]"), "{error}");
    let error = conv.forward(&zeros(&[1, 3, 8, 8]), Some(&zeros(&[1, 4, 8, 8]))).unwrap_err().to_string();
    assert!(error.contains("shape mismatch"), "{error}");
    assert!(PackedConv2d::new(&weight.to_dtype(candle_core::DType::F64).unwrap(), &bias, geometry).is_err());
    let error =
        PackedConv2d::new(&weight, &bias, ConvGeometry { inputs: 6, ..geometry }).unwrap_err().to_string();
    assert!(error.contains("has a weight of [4, 6, 3, 3], not of [4, 3, 3, 3]"), "{error}");
    for wrong in [
        geometry.with_groups(2),
        geometry.with_groups(0),
        geometry.with_stride([1, 0]),
        geometry.with_dilation([1 << 17, 1]),
        ConvGeometry { kernel: [0, 3], ..geometry },
    ] {
        let error = PackedConv2d::new(&weight, &bias, wrong).unwrap_err().to_string();
        assert!(error.contains("is no convolution"), "{error}");
    }
}
