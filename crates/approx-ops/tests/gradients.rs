//! Gradients against finite differences of the float64 truth, on each device.

#[path = "../../cnn-kernels/tests/devices/mod.rs"]
mod devices;

use approx_ops::{
    MinimaxMaxPool, MinimaxRelu, PoolSpec, RangeRecorder, max_pool, reference, relu, relu_aq, square,
};
use candle_core::{Device, Tensor, Var};
use cnn_kernels::Padding;
use minimax_coeffs::{Alpha, CompositeSign};

use devices::devices;

/// The gradient of `Σ w_i f(x)_i` with weights that differ, so that no gradient can be in another's place.
fn gradient(xs: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> (Vec<f32>, Vec<f64>) {
    let var = Var::from_tensor(xs).unwrap();
    let ys = f(var.as_tensor());
    let weights: Vec<f32> = (0..ys.elem_count()).map(weight).map(|w| w as f32).collect();
    let weights = Tensor::from_vec(weights, ys.shape(), ys.device()).unwrap();
    let gradients = (ys * weights).unwrap().sum_all().unwrap().backward().unwrap();
    let gradient = gradients.get(&var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let xs: Vec<f32> = xs.flatten_all().unwrap().to_vec1().unwrap();
    (gradient, xs.into_iter().map(f64::from).collect())
}

fn weight(i: usize) -> f64 {
    1.0 + (i % 7) as f64 / 8.0
}

fn check(name: &str, actual: &[f32], xs: &[f64], tolerance: f64, sum: impl Fn(&[f64]) -> f64) {
    let h = 1e-5;
    let mut xs = xs.to_vec();
    for i in 0..xs.len() {
        let x = xs[i];
        xs[i] = x + h;
        let above = sum(&xs);
        xs[i] = x - h;
        let below = sum(&xs);
        xs[i] = x;
        let expected = (above - below) / (2.0 * h);
        let error = (f64::from(actual[i]) - expected).abs();
        assert!(error < tolerance * (1.0 + expected.abs()), "{name} at {x}: {} for {expected}", actual[i]);
    }
}

fn check_elementwise(
    device: &Device,
    name: &str,
    f: impl Fn(&Tensor) -> Tensor,
    truth: impl Fn(f64) -> f64,
    tolerance: f64,
) {
    // No point at 0, where ReLU has no derivative; 331 is no multiple of a vector's length.
    let xs: Vec<f32> = (0..331).map(|i| (i as f32 - 165.3) / 165.5 * 10.0).collect();
    let xs = Tensor::new(xs, device).unwrap();
    let (actual, xs) = gradient(&xs, f);
    check(name, &actual, &xs, tolerance, |xs| {
        xs.iter().enumerate().map(|(i, x)| weight(i) * truth(*x)).sum()
    });
}

#[test]
fn elementwise_gradients_are_those_of_finite_differences() {
    devices().iter().for_each(elementwise_gradients_are_those_of_finite_differences_on);
}

fn elementwise_gradients_are_those_of_finite_differences_on(device: &Device) {
    let recorder = RangeRecorder::default();
    check_elementwise(device, "relu", |x| relu(x, &recorder).unwrap(), |x| x.max(0.0), 1e-4);
    check_elementwise(device, "square", |x| square(x, &recorder).unwrap(), |x| x * x, 1e-4);
    check_elementwise(
        device,
        "relu_aq",
        |x| relu_aq(x, &recorder).unwrap(),
        |x| x * x / 8.0 + x / 2.0 + 0.25,
        1e-4,
    );
    for alpha in [4, 7, 10].map(|bits| Alpha::new(bits).unwrap()) {
        let op = MinimaxRelu::new(alpha, 10.0).unwrap();
        let sign = CompositeSign::published(alpha);
        let truth = |x| sign.relu(x, 10.0);
        check_elementwise(device, "minimax", |x| op.forward(x, &recorder).unwrap(), truth, 1e-3);
    }
}

#[test]
fn relu_gradient_follows_the_float64_derivative_at_every_alpha() {
    devices().iter().for_each(relu_gradient_follows_the_float64_derivative_at_every_alpha_on);
}

fn relu_gradient_follows_the_float64_derivative_at_every_alpha_on(device: &Device) {
    for alpha in Alpha::all() {
        let sign = CompositeSign::published(alpha);
        let op = MinimaxRelu::new(alpha, 10.0).unwrap();
        let xs: Vec<f32> = (0..20_001).map(|i| (i as f32 - 10_000.0) / 1_000.0).collect();
        let xs = Tensor::new(xs, device).unwrap();
        let var = Var::from_tensor(&xs).unwrap();
        let ys = op.forward(var.as_tensor(), &RangeRecorder::default()).unwrap();
        let gradients = ys.sum_all().unwrap().backward().unwrap();
        let actual = gradients.get(&var).unwrap().to_vec1::<f32>().unwrap();
        let mut worst = (0.0, 0.0);
        for (x, actual) in xs.to_vec1::<f32>().unwrap().into_iter().zip(actual) {
            let expected = sign.relu_derivative(f64::from(x), 10.0);
            let error = (f64::from(actual) - expected).abs();
            if error > worst.0 {
                worst = (error, x);
            }
        }
        println!("alpha {alpha}: at most {:.2e}, at {}", worst.0, worst.1);
        assert!(worst.0 < 1e-2, "alpha {alpha}: {worst:?}");
    }
}

#[test]
fn max_pool_gradients_are_those_of_finite_differences() {
    devices().iter().for_each(max_pool_gradients_are_those_of_finite_differences_on);
}

fn max_pool_gradients_are_those_of_finite_differences_on(device: &Device) {
    let (n, c, height, width) = (2, 2, 5, 6);
    let count = n * c * height * width;
    // All orders of large and small, but no two values so near to each other that a difference would miss which is larger.
    let xs: Vec<f32> =
        (0..count).map(|i| ((i * 37 % count) as f32 + 0.3) / count as f32 * 16.0 - 8.0).collect();
    let xs = Tensor::from_vec(xs, (n, c, height, width), device).unwrap();
    let recorder = RangeRecorder::default();
    let square = |kernel, stride, padding| PoolSpec::new(kernel, stride, padding).unwrap();
    let rectangular = |kernel, stride, padding| PoolSpec::rectangular(kernel, stride, padding).unwrap();
    let uneven = Padding { top: 1, bottom: 0, left: 0, right: 1 };
    for spec in [
        square(2, 2, 0),
        square(2, 2, 0).with_ceil_mode(true),
        square(3, 2, 1),
        square(3, 2, 0).with_ceil_mode(true),
        square(3, 1, 1),
        square(4, 1, 0),
        square(5, 2, 2).with_ceil_mode(true),
        square(1, 2, 0),
        rectangular([2, 3], [1, 2], Padding::ZERO),
        rectangular([1, 3], [2, 1], Padding::symmetric(0, 1)),
        rectangular([3, 3], [1, 2], uneven),
        rectangular([3, 2], [2, 3], uneven).with_ceil_mode(true),
    ] {
        let weighted = |ys: Vec<f64>| -> f64 { ys.iter().enumerate().map(|(i, y)| weight(i) * y).sum() };
        let planes = |xs: &[f64], pool: &dyn Fn(&[f64]) -> Vec<f64>| {
            weighted(xs.chunks(height * width).flat_map(pool).collect())
        };

        let (actual, values) = gradient(&xs, |x| max_pool(x, &spec, &recorder).unwrap());
        check("max_pool", &actual, &values, 1e-4, |xs| {
            planes(xs, &|image| reference::exact_max_pool(&spec, image, height, width))
        });

        for alpha in [4, 7, 10].map(|bits| Alpha::new(bits).unwrap()) {
            let op = MinimaxMaxPool::new(alpha, 8.0, spec).unwrap();
            let channels_last = |x: &Tensor| {
                let x = x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
                op.forward(&x.permute((0, 3, 1, 2)).unwrap(), &recorder).unwrap()
            };
            for (actual, values) in
                [gradient(&xs, |x| op.forward(x, &recorder).unwrap()), gradient(&xs, channels_last)]
            {
                check("minimax_max_pool", &actual, &values, 2e-3, |xs| {
                    planes(xs, &|image| reference::max_pool(alpha, 8.0, &spec, image, height, width))
                });
            }
        }
    }
}
