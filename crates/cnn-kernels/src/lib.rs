//! The kernels that convolutional networks are made of: convolution, batch norm and average pooling, for inference and for
//! training, on the CPU and with the feature `cuda` on NVIDIA GPUs.
//!
//! All take and give float32 tensors of candle's, of any strides. What comes behind a convolution or a batch norm, such as
//! an activation, is an [`Epilogue`]: it is applied in the same pass over memory, and can measure the range of what it is
//! applied to.
//!
//! | module | what |
//! |---|---|
//! | [`geometry`] | [`ConvGeometry`]: kernel, stride, dilation, padding by side, groups |
//! | [`conv`] | [`PackedConv2d`]: convolution with bias and addend, for inference on the CPU |
//! | [`conv_gradient`] | [`conv2d()`]: convolution for training, with its gradients |
//! | [`batch_norm`] | [`BatchNorm`]: for training |
//! | [`pool`] | [`PoolSpec`]: the windows of a pooling |
//! | [`avg_pool`](mod@avg_pool) | [`avg_pool()`] with any window, and its gradient |
//! | [`add`](mod@add) | the sum of two tensors |
//! | [`subsample`](mod@subsample) | the shortcut of CIFAR-10's ResNets, for the CPU |
//! | [`epilogue`] | [`Epilogue`]: a function at the end of a kernel |
//! | [`range`] | [`RangeStats`]: what a kernel saw |
//! | [`simd`] | [`SimdLevel`]: which instructions are used |
//! | [`cpu`], [`tensor`](mod@tensor) | what kernels on the CPU have in common, for crates with kernels of their own |
#![cfg_attr(feature = "cuda", doc = "| [`cuda`] | the same for CUDA |")]
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use cnn_kernels::{ConvGeometry, PackedConv2d, Padding};
//!
//! let (weight, bias) = (Tensor::ones((4, 3, 3, 3), DType::F32, &Device::Cpu)?, Tensor::zeros(4, DType::F32, &Device::Cpu)?);
//! let geometry = ConvGeometry::new(3, 4, [3, 3]).with_padding(Padding::symmetric(1, 1));
//! let conv = PackedConv2d::new(&weight, &bias, geometry)?;
//! let ys = conv.forward(&Tensor::ones((1, 3, 8, 8), DType::F32, &Device::Cpu)?, None)?;
//! assert_eq!(ys.dims(), [1, 4, 8, 8]);
//! assert_eq!(ys.get(0)?.get(0)?.get(0)?.to_vec1::<f32>()?, [12.0, 18.0, 18.0, 18.0, 18.0, 18.0, 18.0, 12.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod add;
pub mod avg_pool;
pub mod batch_norm;
mod composed;
pub mod conv;
pub mod conv_gradient;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod epilogue;
mod error;
pub mod geometry;
pub mod pool;
pub mod range;
pub mod simd;
pub mod subsample;
pub mod tensor;
mod window;

pub use add::add;
pub use avg_pool::{avg_pool, avg_pool_gradient};
pub use batch_norm::{BatchNorm, BatchNormGradients, BatchStatistics};
pub use conv::PackedConv2d;
pub use conv_gradient::{conv2d, conv2d_by_library, conv2d_input_gradient, conv2d_weight_gradient};
#[cfg(feature = "cuda")]
pub use cuda::cuda_device;
pub use epilogue::Epilogue;
pub use error::{KernelError, Result, check_dtype};
pub use geometry::ConvGeometry;
pub use pool::PoolSpec;
pub use range::RangeStats;
pub use simd::SimdLevel;
pub use subsample::{subsample, subsample_gradient};
pub use window::Padding;

#[cfg(test)]
extern crate self as cnn_kernels;
#[cfg(test)]
#[allow(dead_code, reason = "the tests of the ops use the rest")]
#[path = "../tests/epilogues/mod.rs"]
mod test_epilogues;

// The dependency is there for its feature alone (see Cargo.toml).
use gemm as _;
