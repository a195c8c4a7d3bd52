//! The linear layer.

use candle_core::Tensor;
use cnn_graph::{Graph, Node};

use crate::error::Result;
use crate::params::ParamReader;

/// `x Wᵀ + b`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

/// The gradients of a linear layer.
pub(crate) struct LinearGradients {
    pub(crate) xs: Tensor,
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Linear {
    pub(crate) fn read(graph: &Graph, node: &Node, reader: &mut ParamReader) -> Result<Self> {
        let params = graph.params_of(node);
        let weight = reader.tensor(&params[0])?;
        Ok(Self { weight, bias: params.get(1).map(|bias| reader.tensor(bias)).transpose()? })
    }

    /// The same numbers, of which candle does not record what is done with them.
    pub(crate) fn detached(&self) -> Self {
        Self { weight: self.weight.detach(), bias: self.bias.as_ref().map(Tensor::detach) }
    }

    /// # Shapes
    /// `xs`: `[N, inputs]`; the result `[N, outputs]`.
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = xs.matmul(&self.weight.t()?)?;
        Ok(match &self.bias {
            Some(bias) => ys.broadcast_add(bias)?,
            None => ys,
        })
    }

    /// # Shapes
    /// `xs`: `[N, inputs]`; `gradient`: `[N, outputs]`.
    pub(crate) fn gradients(&self, xs: &Tensor, gradient: &Tensor) -> Result<LinearGradients> {
        let weight = self.weight.detach();
        Ok(LinearGradients {
            xs: gradient.matmul(&weight)?,
            weight: gradient.t()?.matmul(xs)?,
            bias: gradient.sum(0)?,
        })
    }
}
