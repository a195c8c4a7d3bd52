//! The gradients of convolutions against plain float64 loops.

mod devices;
mod geometries;

use candle_core::{Device, Tensor, Var};
use cnn_kernels::{ConvGeometry, Padding, SimdLevel, conv2d, conv2d_input_gradient, conv2d_weight_gradient};
use devices::devices;
use proptest::prelude::*;

fn values(tensor: &Tensor) -> Vec<f64> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f64::from).collect()
}

/// The result of a convolution and the gradients of `Σ g · result` in input and weights, all in row-major order.
fn truth(xs: &Tensor, weight: &Tensor, gradient: &Tensor, geometry: &ConvGeometry) -> [Vec<f64>; 3] {
    let (n, channels, height, width) = xs.dims4().unwrap();
    let ConvGeometry { outputs, kernel: [kernel_y, kernel_x], stride, dilation, padding, groups, .. } =
        *geometry;
    let inputs = channels / groups;
    let (_, _, out_y, out_x) = gradient.dims4().unwrap();
    let (xs, weight, gradient) = (values(xs), values(weight), values(gradient));
    let mut result = vec![0.0; gradient.len()];
    let (mut of_xs, mut of_weight) = (vec![0.0; xs.len()], vec![0.0; weight.len()]);
    for (i, g) in gradient.iter().enumerate() {
        let (image, output) = (i / (out_x * out_y * outputs), i / (out_x * out_y) % outputs);
        let (y, x) = (i / out_x % out_y, i % out_x);
        for j in 0..inputs * kernel_y * kernel_x {
            let (input, ky, kx) = (j / (kernel_y * kernel_x), j / kernel_x % kernel_y, j % kernel_x);
            let input = output / (outputs / groups) * inputs + input;
            let y = (y * stride[0] + ky * dilation[0]).checked_sub(padding.top).filter(|y| *y < height);
            let x = (x * stride[1] + kx * dilation[1]).checked_sub(padding.left).filter(|x| *x < width);
            let (Some(y), Some(x)) = (y, x) else { continue };
            let pixel = ((image * channels + input) * height + y) * width + x;
            let w = output * inputs * kernel_y * kernel_x + j;
            result[i] += xs[pixel] * weight[w];
            of_xs[pixel] += g * weight[w];
            of_weight[w] += g * xs[pixel];
        }
    }
    assert_eq!(result.len(), n * outputs * out_y * out_x);
    [result, of_xs, of_weight]
}

fn assert_close(actual: &Tensor, expected: &[f64], what: &str) {
    let scale = expected.iter().fold(0f64, |max, e| max.max(e.abs()));
    for (i, (a, e)) in values(actual).iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= 1e-5 * scale, "{what}, number {i}: {a} for {e} (the largest is {scale})");
    }
}

/// N, height and width, and the convolution.
type Case = (usize, [usize; 2], ConvGeometry);

fn check((n, [height, width], geometry): Case, device: &Device, place: &str) {
    let random = |shape: [usize; 4]| Tensor::randn(0f32, 1.0, &shape, device).unwrap();
    let xs = Var::from_tensor(&random([n, geometry.inputs, height, width])).unwrap();
    let weight = Var::from_tensor(&random(geometry.weight_shape())).unwrap();
    let what = format!("{n} images of {height}×{width}, {geometry:?}, {place}");
    let ys = conv2d(&xs, &weight, geometry).unwrap();
    let gradient = random(ys.dims().try_into().unwrap());
    let [result, of_xs, of_weight] = truth(&xs, &weight, &gradient, &geometry);
    assert_close(&ys, &result, &what);
    let actual = conv2d_input_gradient(&gradient, &weight, [height, width], geometry).unwrap();
    assert_close(&actual, &of_xs, &format!("input of {what}"));
    let actual = conv2d_weight_gradient(&xs, &gradient, geometry).unwrap();
    assert_close(&actual, &of_weight, &format!("weights of {what}"));
    if device.is_cpu() {
        // candle's differentiation goes the same way.
        let gradients = (&ys * &gradient).unwrap().sum_all().unwrap().backward().unwrap();
        assert_close(gradients.get(&xs).unwrap(), &of_xs, &format!("input of {what}, by candle"));
        assert_close(gradients.get(&weight).unwrap(), &of_weight, &format!("weights of {what}, by candle"));
    }
}

/// One test for all, because the level is the whole process's.
#[test]
fn gradients_of_convolutions_agree_with_float64_loops_at_every_simd_level() {
    let plain = |(n, inputs, height, width, outputs, kernel, stride, (rows, columns))| -> Case {
        let geometry = ConvGeometry::new(inputs, outputs, kernel).with_stride([stride; 2]);
        (n, [height, width], geometry.with_padding(Padding::symmetric(rows, columns)))
    };
    let mut cases: Vec<Case> = [
        (3, 3, 12, 12, 16, [3, 3], 1, (1, 1)), // the first layer
        (5, 16, 10, 9, 16, [3, 3], 1, (1, 1)), // Winograd, partial tiles
        (2, 32, 8, 8, 48, [3, 3], 1, (1, 1)),  // more than one panel
        (2, 20, 7, 5, 24, [3, 3], 1, (0, 1)),  // no whole panels or vectors
        (3, 16, 8, 8, 32, [3, 3], 2, (1, 1)),  // stride 2 from an even size
        (3, 16, 9, 7, 32, [3, 3], 2, (1, 1)),  // and from an odd one
        (7, 32, 2, 2, 32, [3, 3], 1, (1, 1)),  // few pixels
        (2, 24, 6, 6, 17, [1, 1], 1, (0, 0)),
        (2, 16, 6, 6, 32, [1, 1], 2, (0, 0)),
        (1, 3, 20, 20, 8, [7, 7], 2, (3, 3)),
        (1, 8, 9, 9, 8, [1, 7], 1, (0, 3)),
        (1, 1, 3, 3, 1, [2, 2], 1, (0, 0)),
    ]
    .map(plain)
    .to_vec();
    cases.extend(geometries::table());
    for level in SimdLevel::available() {
        SimdLevel::force(level).unwrap();
        cases.iter().for_each(|case| check(*case, &Device::Cpu, &level.to_string()));
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
        let any = runner.run(&geometries::geometry(), |(size, geometry)| {
            check((2, size, geometry), &Device::Cpu, &level.to_string());
            Ok(())
        });
        any.unwrap();
    }
    for device in devices().iter().filter(|device| !device.is_cpu()) {
        let large = [
            (10, 64, 40, 40, 64, [3, 3], 1, (1, 1)), // cuDNN's forms for many multiplications
            (16, 256, 32, 32, 256, [1, 1], 1, (0, 0)),
            (16, 64, 64, 64, 64, [3, 3], 2, (1, 1)),
        ]
        .map(plain);
        cases.iter().copied().chain(large).for_each(|case| check(case, device, "CUDA"));
    }
    gradients_of_weights_do_not_depend_on_the_number_of_threads();
}

/// No test of its own, because the level is the whole process's.
fn gradients_of_weights_do_not_depend_on_the_number_of_threads() {
    let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
    for (inputs, stride, groups) in [(3, 1, 1), (32, 1, 1), (32, 2, 1), (32, 1, 32), (32, 1, 4)] {
        let geometry = ConvGeometry::new(inputs, 32, [3, 3]).with_stride([stride; 2]).with_groups(groups);
        let geometry = geometry.with_padding(Padding::symmetric(1, 1));
        let (xs, weight) =
            (random(&[9, inputs, 20, 20]), Var::from_tensor(&random(&geometry.weight_shape())).unwrap());
        let gradient = |threads: usize| -> Vec<f32> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let sum = conv2d(&xs, &weight, geometry).unwrap().sqr().unwrap().sum_all().unwrap();
                let gradients = sum.backward().unwrap();
                gradients.get(&weight).unwrap().flatten_all().unwrap().to_vec1().unwrap()
            })
        };
        assert!(gradient(1) == gradient(3), "{geometry:?}");
    }
}
