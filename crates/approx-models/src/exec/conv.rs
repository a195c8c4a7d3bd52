//! Convolution for inference, with the batch norm folded in.

#[cfg(feature = "cuda")]
use approx_ops::TiledConv2d;
use approx_ops::{Activation, OpError, RangeRecorder};
use candle_core::{Device, Tensor};
use cnn_graph::Graph;
use cnn_graph::ops::{self, Op};
use cnn_graph::passes::fold::{NormParams, fold_batch_norm};
use cnn_graph::passes::{FoldedConv, FusedConv};
use cnn_kernels::{ConvGeometry, PackedConv2d, Padding, conv2d_by_library};

use crate::error::Result;
use crate::params::ParamReader;

/// Outputs of at most so many pixels are computed in the direct form: most of a Winograd tile would be padding.
const FEW_PIXELS: usize = 4;

/// A convolution with bias: on the CPU our own, elsewhere cuDNN's or candle's.
#[derive(Debug, Clone)]
pub(crate) enum Conv {
    Packed(PackedConv2d),
    Library(LibraryConv),
}

/// cuDNN's convolution, or candle's. Bias, addend and activation follow in one pass, in place.
#[derive(Debug, Clone)]
pub(crate) struct LibraryConv {
    pub(crate) weight: Tensor,
    /// `[outputs]`.
    pub(crate) bias: Tensor,
    pub(crate) geometry: ConvGeometry,
    /// Our own, where it is faster, with bias, addend and activation in the same pass.
    #[cfg(feature = "cuda")]
    pub(crate) tiled: Option<TiledConv2d>,
}

/// A convolution as the kernels take it; `weight` is the shape of its weight.
pub(crate) fn geometry(conv: &ops::Conv, weight: &[usize]) -> ConvGeometry {
    let ops::Conv { outputs, kernel, stride, dilation, padding, groups, .. } = *conv;
    ConvGeometry {
        inputs: weight[1] * groups,
        outputs,
        kernel,
        stride,
        dilation,
        padding: sides(padding),
        groups,
    }
}

/// Padding as the kernels take it.
pub(crate) fn sides(padding: ops::Padding) -> Padding {
    let ops::Padding { top, bottom, left, right } = padding;
    Padding { top, bottom, left, right }
}

impl Conv {
    /// Reads a convolution and the batch norm behind it.
    pub(crate) fn read(graph: &Graph, fused: &FusedConv, reader: &mut ParamReader) -> Result<Self> {
        let node = graph.node(fused.conv);
        let Op::Conv(spec) = &node.op else { unreachable!("a fused convolution begins with one") };
        let params = graph.params_of(node);
        let weight = reader.values(&params[0])?;
        let bias = params.get(1).map(|bias| reader.values(bias)).transpose()?;
        let shape = params[0].shape.as_slice();
        let geometry = geometry(spec, shape);
        let FoldedConv { weight, bias } = match fused.norm.map(|norm| graph.node(norm)) {
            None => FoldedConv { weight, bias: bias.unwrap_or_else(|| vec![0.0; spec.outputs]) },
            Some(norm) => {
                let Op::BatchNorm(ops::BatchNorm { eps }) = norm.op else {
                    unreachable!("it was matched as one")
                };
                let params = graph.params_of(norm);
                let [scale, shift, mean, variance] = [0, 1, 2, 3].map(|i| reader.values(&params[i]));
                let norm =
                    NormParams { weight: &scale?, bias: &shift?, mean: &mean?, variance: &variance?, eps };
                fold_batch_norm(&weight, bias.as_deref(), norm)
            }
        };
        let weight = Tensor::from_vec(weight, shape, reader.device())?;
        let bias = Tensor::from_vec(bias, spec.outputs, reader.device())?;
        let few_pixels = node.shape.dims()[1..].iter().product::<usize>() <= FEW_PIXELS;
        Ok(match reader.device() {
            Device::Cpu => {
                let pack = if few_pixels { PackedConv2d::direct } else { PackedConv2d::new };
                Self::Packed(pack(&weight, &bias, geometry)?)
            }
            _ => Self::Library(LibraryConv::new(weight, bias, geometry)?),
        })
    }

    /// The convolution plus `addend`, if there is one, through `activation`, whose inputs are recorded.
    ///
    /// # Shapes
    /// `xs`: `[N, inputs, H, W]`; `addend` and the result: `[N, outputs, H', W']`.
    pub(crate) fn forward(
        &self,
        xs: &Tensor,
        addend: Option<&Tensor>,
        activation: &Activation,
        recorder: Option<&RangeRecorder>,
    ) -> Result<Tensor> {
        Ok(match (self, recorder) {
            (Self::Packed(packed), Some(recorder)) => {
                packed.forward_with(xs, addend, &activation.recorded_by(recorder))?
            }
            (Self::Packed(packed), None) => packed.forward(xs, addend)?,
            (Self::Library(conv), recorder) => conv.forward(xs, addend, activation, recorder)?,
        })
    }
}

impl LibraryConv {
    fn new(weight: Tensor, bias: Tensor, geometry: ConvGeometry) -> Result<Self, OpError> {
        Ok(Self {
            #[cfg(feature = "cuda")]
            tiled: TiledConv2d::new(&weight, &bias, geometry)?,
            weight,
            bias,
            geometry,
        })
    }

    fn forward(
        &self,
        xs: &Tensor,
        addend: Option<&Tensor>,
        activation: &Activation,
        recorder: Option<&RangeRecorder>,
    ) -> Result<Tensor, OpError> {
        #[cfg(feature = "cuda")]
        if let Some(tiled) = &self.tiled
            && let Some(ys) = tiled.forward(xs, addend, activation, recorder)?
        {
            return Ok(ys);
        }
        let ys = conv2d_by_library(xs, &self.weight, self.geometry)?;
        activation.apply_in_place(&ys, &self.bias, addend, recorder)?;
        Ok(ys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What runs on a GPU, run on the CPU.
    #[test]
    fn candles_convolution_with_one_pass_behind_it_gives_what_ours_gives() {
        let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        let values = |xs: &Tensor| xs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let convolution = |kernel, stride, (rows, columns)| {
            let geometry = ConvGeometry::new(3, 4, kernel).with_stride(stride);
            geometry.with_padding(Padding::symmetric(rows, columns))
        };
        for geometry in [
            convolution([3, 3], [1, 1], (1, 1)),
            convolution([1, 7], [1, 1], (0, 3)),
            convolution([3, 3], [2, 2], (1, 1)),
            convolution([3, 2], [1, 2], (1, 1)).with_dilation([2, 1]),
        ] {
            let (weight, bias) = (random(&geometry.weight_shape()), random(&[4]));
            let ours = Conv::Packed(PackedConv2d::new(&weight, &bias, geometry).unwrap());
            let candles = Conv::Library(LibraryConv::new(weight, bias, geometry).unwrap());
            let xs = random(&[2, 3, 9, 8]);
            let ys = ours.forward(&xs, None, &Activation::IDENTITY, None).unwrap();
            let addend = random(ys.dims());
            let (mine, other) = (RangeRecorder::default(), RangeRecorder::default());
            let relu = |conv: &Conv, recorder| {
                conv.forward(&xs, Some(&addend), &Activation::RELU, Some(recorder)).unwrap()
            };
            let pairs = [
                (ys, candles.forward(&xs, None, &Activation::IDENTITY, None).unwrap()),
                (relu(&ours, &mine), relu(&candles, &other)),
            ];
            for (expected, actual) in pairs {
                assert_eq!(actual.dims(), expected.dims());
                for (a, e) in values(&actual).iter().zip(values(&expected)) {
                    assert!((a - e).abs() < 1e-4, "{geometry:?}: {a}, not {e}");
                }
            }
            assert!((mine.take().max_abs - other.take().max_abs).abs() < 1e-4);
        }
    }
}
