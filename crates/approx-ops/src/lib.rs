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
//! | [`max_pool`](mod@max_pool) | [`MinimaxMaxPool`], and the exact [`max_pool()`], of any window |
//! | [`noise`] | [`NoisyRelu`], [`NoisyFitted`], [`NoisyMaxPool`]: the same under the noise of CKKS, simulated |
//! | [`activation`] | [`Activation`]: any function of one variable, chosen at run time: exact, through ReLU or a polynomial; by itself or at the end of a kernel of the crate [`cnn_kernels`] |
//! | [`range`] | [`RangeRecorder`]: what an op saw |
//! | [`sketch`] | [`Sketch`]: the distribution of a site's inputs |
#![cfg_attr(
    feature = "cuda",
    doc = "| [`tiled_conv`] | [`TiledConv2d`]: 3×3 convolutions of few channels on CUDA, with an activation behind them |"
)]
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
#[cfg(any(feature = "cuda", test))]
mod composed;
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
pub mod sketch;
#[cfg(feature = "cuda")]
pub mod tiled_conv;

pub use activation::{Activation, ActivationEpilogue, Precision};
pub use cnn_kernels::{PoolSpec, RangeStats};
#[cfg(feature = "cuda")]
pub use cuda::slots::RangeSlots;
pub use error::{OpError, Result};
pub use max_pool::{MinimaxMaxPool, max_pool, max_pool_gradient};
pub use minimax_coeffs::ActivationFunction;
pub use noise::{Excursions, Noise, NoisyFitted, NoisyMaxPool, NoisyRelu};
pub use quadratic::{relu_aq, square};
pub use range::{RangePenalty, RangeRecorder};
pub use relu::{MinimaxRelu, relu};
pub use sketch::Sketch;
#[cfg(feature = "cuda")]
pub use tiled_conv::TiledConv2d;
