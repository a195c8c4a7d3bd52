//! ONNX's operators, a file each family.
//!
//! Each has a function that makes nodes of a draft of a node of the file, and one that does the opposite. How to add one:
//! docs/adding-an-operator.md. Their definitions: <https://onnx.ai/onnx/operators/>.

pub(crate) mod activation;
pub(crate) mod arithmetic;
pub(crate) mod batch_norm;
pub(crate) mod concat;
pub(crate) mod constant;
pub(crate) mod conv;
pub(crate) mod dropout;
pub(crate) mod linear;
pub(crate) mod pad;
pub(crate) mod pool;
pub(crate) mod reduce;
pub(crate) mod reshape;
pub(crate) mod slice;
pub(crate) mod transpose;

use crate::import::Importer;
use crate::import::call::{Call, Outcome};
use crate::proto::NodeProto;

/// What makes a draft's nodes of a node of the file.
pub(crate) type Import = fn(&mut Importer, &Call) -> Outcome;

/// How an operator is read.
pub(crate) fn find(operator: &str) -> Option<Import> {
    Some(match operator {
        "Add" => arithmetic::add,
        "AveragePool" => pool::average,
        "BatchNormalization" => batch_norm::import,
        "Cast" => constant::cast,
        "Clip" => activation::clip,
        "Concat" => concat::import,
        "Constant" => constant::constant,
        "ConstantOfShape" => constant::of_shape,
        "Conv" => conv::import,
        "Div" => arithmetic::div,
        "Dropout" => dropout::import,
        "Erf" => activation::erf,
        "Flatten" => reshape::flatten,
        "Gather" => slice::gather,
        "Gelu" => activation::gelu,
        "Gemm" => linear::gemm,
        "GlobalAveragePool" => pool::global_average,
        "GlobalMaxPool" => pool::global_max,
        "HardSigmoid" => activation::hard_sigmoid,
        "HardSwish" => activation::hard_swish,
        "Identity" => reshape::identity,
        "LeakyRelu" => activation::leaky_relu,
        "MatMul" => linear::mat_mul,
        "Max" => activation::max,
        "MaxPool" => pool::max,
        "Min" => activation::min,
        "Mul" => arithmetic::mul,
        "Neg" => arithmetic::neg,
        "PRelu" => activation::prelu,
        "Pad" => pad::import,
        "Pow" => arithmetic::pow,
        "ReduceMean" => reduce::mean,
        "Relu" => activation::relu,
        "Reshape" => reshape::reshape,
        "Shape" => constant::shape,
        "Sigmoid" => activation::sigmoid,
        "Slice" => slice::slice,
        "Split" => slice::split,
        "Sqrt" => arithmetic::sqrt,
        "Squeeze" => reshape::squeeze,
        "Sub" => arithmetic::sub,
        "Swish" => activation::swish,
        "Tanh" => activation::tanh,
        "Transpose" => transpose::import,
        "Unsqueeze" => reshape::unsqueeze,
        _ => return None,
    })
}

/// What can be done about an operator that is not read.
pub(crate) fn advice(node: &NodeProto, standard: bool) -> String {
    if !standard {
        return "is no operator of ONNX itself: export with standard operators, and inline functions by onnx.inliner"
            .to_owned();
    }
    let advice = match node.op_type.as_str() {
        "Softmax" | "LogSoftmax" | "Hardmax" => {
            "divides by a sum of exponentials: at the end of a network it changes no class, so export the logits \
             before it; attention cannot be read"
        }
        "Attention" | "RotaryEmbedding" => "transformers cannot be read; use a convolutional network",
        "LayerNormalization"
        | "GroupNormalization"
        | "InstanceNormalization"
        | "LpNormalization"
        | "RMSNormalization"
        | "MeanVarianceNormalization"
        | "LRN" => "divides by a number that depends on the image; use a network with batch norm",
        "Celu" | "Elu" | "HardTanh" | "Mish" | "Selu" | "Shrink" | "Softplus" | "Softsign"
        | "ThresholdedRelu" | "Exp" | "Log" => {
            "is a function for which there is no approximation; use one of those in docs/onnx.md, such as ReLU, \
             SiLU or GELU"
        }
        "QuantizeLinear"
        | "DequantizeLinear"
        | "DynamicQuantizeLinear"
        | "QLinearConv"
        | "QLinearMatMul"
        | "ConvInteger"
        | "MatMulInteger" => "belongs to a quantised network; export it before quantisation",
        "If" | "Loop" | "Scan" => {
            "decides while the network runs; export a network in which nothing depends on values or on the batch's size"
        }
        "LSTM" | "GRU" | "RNN" => "is recurrent; use a convolutional network",
        "ConvTranspose" | "Resize" | "Upsample" | "DepthToSpace" | "SpaceToDepth" | "GridSample" => {
            "makes larger or rearranged images; only networks that classify images can be read"
        }
        _ => "is not read; docs/onnx.md lists what is, docs/adding-an-operator.md shows how to add one",
    };
    advice.to_owned()
}
