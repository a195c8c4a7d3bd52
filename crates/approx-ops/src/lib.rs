//! candle custom ops that replace ReLU and max-pooling by what homomorphic encryption can evaluate.
//!
//! The polynomials are those of Lee et al. (arXiv 2105.10879), from the crate [`minimax_coeffs`]. All ops take
//! and give float32 tensors of any strides, run forward and backward, on the CPU and with the feature `cuda` on
//! NVIDIA GPUs, and measure the largest `|x|` they saw in
//! the same pass: a value outside the range of approximation is never evaluated silently.
//!
//! | module | what |
//! |---|---|
//! | [`relu`](mod@relu) | [`MinimaxRelu`], and the exact [`relu()`] |
//! | [`quadratic`] | [`square`] and [`relu_aq`], the low-degree alternatives that the paper compares with |
//! | [`max_pool`](mod@max_pool) | [`MinimaxMaxPool`], and the exact [`max_pool()`] with padding and ceil mode |
//! | [`noise`] | [`NoisyRelu`], [`NoisyMaxPool`]: the same under the noise of CKKS, simulated |
//! | [`activation`] | [`Activation`]: any function of one variable, chosen at run time: exact, through ReLU, a polynomial |
//! | [`conv`] | [`PackedConv2d`]: convolution with bias and addend, for inference on the CPU |
//! | [`conv_gradient`] | [`conv2d()`]: convolution for training, with its gradients |
//! | [`batch_norm`] | [`BatchNorm`]: for training, with the activation behind it |
//! | [`avg_pool`] | [`avg_pool_3x3`]: with padding, for inference on the CPU |
//! | [`subsample`](mod@subsample) | the shortcut of CIFAR-10's ResNets, for the CPU |
//! | [`range`] | [`RangeRecorder`]: what an op saw |
//! | [`simd`] | [`SimdLevel`]: which instructions are used |
//! | [`sketch`] | [`Sketch`]: the distribution of a site's inputs |
//! | [`reference`](mod@reference) | the same functions as plain float64 loops, for tests |
//!
//! ```
//! use approx_ops::{MinimaxRelu, RangeRecorder};
//! use candle_core::{Device, Tensor};
//! use minimax_coeffs::Alpha;
//!
//! let relu = MinimaxRelu::new(Alpha::MAX, 50.0)?;
//! let range = RangeRecorder::default();
//! let xs = Tensor::new(&[-20f32, 3.0, 61.3], &Device::Cpu)?;
//! let ys = relu.forward(&xs, &range)?.to_vec1::<f32>()?;
//! assert!(ys[0].abs() < 50.0 * 2f32.powi(-14) && (ys[1] - 3.0).abs() < 50.0 * 2f32.powi(-14));
//! let seen = range.take();
//! assert_eq!((seen.max_abs, seen.out_of_range), (61.3, 1)); // so ys[2] means nothing
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod activation;
pub mod avg_pool;
pub mod batch_norm;
mod composed;
pub mod conv;
pub mod conv_gradient;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod elementwise;
mod error;
#[cfg(any(feature = "cuda", test))]
mod kernels;
pub mod max_pool;
pub mod noise;
pub mod quadratic;
pub mod range;
pub mod reference;
pub mod relu;
pub mod simd;
pub mod sketch;
pub mod subsample;

pub use activation::{Activation, Precision};
pub use avg_pool::avg_pool_3x3;
pub use batch_norm::{BatchNorm, BatchNormGradients, BatchStatistics};
pub use conv::PackedConv2d;
pub use conv_gradient::{
    ConvWindow, conv2d, conv2d_by_library, conv2d_input_gradient, conv2d_weight_gradient,
};
#[cfg(feature = "cuda")]
pub use cuda::cuda_device;
pub use elementwise::add;
pub use error::{OpError, Result};
pub use max_pool::{MinimaxMaxPool, PoolSpec, max_pool, max_pool_gradient};
pub use minimax_coeffs::ActivationFunction;
pub use noise::{Excursions, Noise, NoisyMaxPool, NoisyRelu};
pub use quadratic::{relu_aq, square};
pub use range::{RangePenalty, RangeRecorder, RangeStats};
pub use relu::{MinimaxRelu, relu};
pub use simd::SimdLevel;
pub use sketch::Sketch;
pub use subsample::{subsample, subsample_gradient};

// The dependency is there for its feature alone (see Cargo.toml).
use gemm as _;
