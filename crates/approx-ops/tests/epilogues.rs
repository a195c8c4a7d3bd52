//! Activations at the end of the kernels of cnn-kernels: what they give there is what they give by themselves.

use approx_ops::{Activation, MinimaxRelu, RangePenalty, RangeRecorder};
use candle_core::{Device, Tensor};
use cnn_kernels::{BatchNorm, ConvGeometry, PackedConv2d, Padding, SimdLevel};
use minimax_coeffs::Alpha;

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

fn activations() -> [Activation; 4] {
    let minimax = |bits, bound| MinimaxRelu::new(Alpha::new(bits).unwrap(), bound).unwrap();
    // All sums are within 200. Outside of its range, only the last one is defined.
    let [wide, narrow] = [minimax(14, 200.0), minimax(7, 1.0).with_exact_outside()];
    [Activation::RELU, Activation::RELU_AQ, wide.into(), narrow.into()]
}

/// One test for all, because the level is the whole process's.
#[test]
fn activations_at_the_end_of_a_kernel_are_those_behind_it_at_every_simd_level() {
    for level in SimdLevel::available() {
        SimdLevel::force(level).unwrap();
        for (inputs, outputs, size, kernel) in [(3, 16, 12, 3), (16, 17, 9, 3), (5, 33, 6, 1)] {
            convolutions(inputs, outputs, size, kernel);
        }
        batch_norms();
    }
}

fn convolutions(inputs: usize, outputs: usize, size: usize, kernel: usize) {
    let (xs, residual) = (random(&[3, inputs, size, size]), random(&[3, outputs, size, size]));
    let weight = random(&[outputs, inputs, kernel, kernel]);
    let geometry = ConvGeometry::new(inputs, outputs, [kernel; 2])
        .with_padding(Padding::symmetric(kernel / 2, kernel / 2));
    let conv = PackedConv2d::new(&weight, &random(&[outputs]), geometry).unwrap();
    let ys = conv.forward(&xs, Some(&residual)).unwrap();
    for activation in activations() {
        let [within, after] = [RangeRecorder::default(), RangeRecorder::default()];
        let fused = conv.forward_with(&xs, Some(&residual), &activation.recorded_by(&within)).unwrap();
        let separate = activation.forward(&ys, &after).unwrap();
        assert_eq!(bits(&fused), bits(&separate), "{activation:?}");
        assert_eq!(fused.stride(), separate.stride());
        let range = within.take();
        assert_eq!(range, after.take(), "{activation:?}");
        assert!(range.max_abs < 200.0, "{range:?}");
    }
}

fn batch_norms() {
    let shape = [3, 5, 4, 3];
    let (xs, addend, gradient) = (random(&shape), random(&shape), random(&shape));
    let norm = BatchNorm { weight: random(&[5]), bias: random(&[5]), eps: 1e-5 };
    for activation in activations() {
        let [within, before, after] = [0; 3].map(|_| RangeRecorder::default());
        let (ys, statistics) = norm.forward(&xs, Some(&addend), &activation.recorded_by(&within)).unwrap();
        let identity = Activation::IDENTITY;
        let (zs, _) = norm.forward(&xs, Some(&addend), &identity.recorded_by(&before)).unwrap();
        assert_eq!(bits(&ys), bits(&activation.forward(&zs, &after).unwrap()), "{activation:?}");
        assert_eq!(within.take(), after.take(), "{activation:?}");

        let penalty = activation.range().map(|(center, bound)| RangePenalty { center, bound, weight: 0.3 });
        let epilogue = activation.penalised_by(penalty);
        let back = norm.backward(&xs, Some(&addend), &epilogue, &statistics, &gradient).unwrap();
        let mut expected = values(&activation.gradient(&zs, &gradient).unwrap());
        let sum = penalty.map_or(0.0, |penalty| penalty.add_gradient(&values(&zs), &mut expected));
        assert!((back.penalty - sum).abs() <= 1e-6 * sum, "{activation:?}: {}, not {sum}", back.penalty);
        // The addend's gradient is that of the activation's input.
        for (a, e) in values(&back.addend.unwrap()).iter().zip(&expected) {
            assert!((a - e).abs() <= 1e-5 * (1.0 + e.abs()), "{activation:?}: {a}, not {e}");
        }
    }
}
