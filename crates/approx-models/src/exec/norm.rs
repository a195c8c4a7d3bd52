//! A factor and a summand for each channel: constants of a network, or batch norm that no convolution takes.

use candle_core::{Device, Tensor};
use cnn_graph::ops::{Affine, Op};
use cnn_graph::passes::fold::NormParams;
use cnn_graph::{Graph, Node, Shape};

use crate::error::Result;
use crate::params::ParamReader;

/// `scale[c] · x + shift[c]`.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    /// `[1, C, 1, …]`, or with 1 for `C`.
    pub(crate) scale: Tensor,
    /// As `scale`.
    pub(crate) shift: Tensor,
}

impl Norm {
    /// Batch norm with its running mean and variance.
    pub(crate) fn read(graph: &Graph, node: &Node, reader: &mut ParamReader) -> Result<Self> {
        let Op::BatchNorm(norm) = node.op else { unreachable!("it was matched as one") };
        let params = graph.params_of(node);
        let [weight, bias, mean, variance] = [0, 1, 2, 3].map(|i| reader.values(&params[i]));
        let (weight, bias, mean, variance) = (weight?, bias?, mean?, variance?);
        let params =
            NormParams { weight: &weight, bias: &bias, mean: &mean, variance: &variance, eps: norm.eps };
        let (scale, shift) = params.as_affine();
        Self::new(&scale, &shift, &node.shape, reader.device())
    }

    /// A network's constants.
    pub(crate) fn of(affine: &Affine, shape: &Shape, device: &Device) -> Result<Self> {
        Self::new(&affine.scale, &affine.shift, shape, device)
    }

    fn new(scale: &[f64], shift: &[f64], shape: &Shape, device: &Device) -> Result<Self> {
        let of_channels = |values: &[f64]| -> Result<Tensor> {
            let mut dims = vec![1; shape.rank() + 1];
            if let Some(channels) = dims.get_mut(1) {
                *channels = values.len();
            }
            let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
            Ok(Tensor::from_vec(values, dims, device)?)
        };
        Ok(Self { scale: of_channels(scale)?, shift: of_channels(shift)? })
    }

    /// # Shapes
    /// `xs`: `[N, C, …]`; the result has the same.
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        Ok(xs.broadcast_mul(&self.scale)?.broadcast_add(&self.shift)?)
    }

    /// The gradient of the input.
    pub(crate) fn gradient(&self, gradient: &Tensor) -> Result<Tensor> {
        Ok(gradient.broadcast_mul(&self.scale)?)
    }
}
