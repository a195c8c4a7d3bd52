//! A graph as an ONNX file.

use std::collections::HashSet;
use std::error::Error;
use std::io::Write;

use bytes::Bytes;
use cnn_graph::ops::Op;
use cnn_graph::{Graph, ParamSpec, Shape};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::error::{OnnxError, Result};
use crate::ops;
use crate::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// The version of ONNX's operators that a file uses, unless an operation needs a newer one.
const OPSET: i64 = 17;

/// The versions of the file format that came with opset 17 and 20.
const IR_VERSION: i64 = 8;
const IR_VERSION_20: i64 = 9;

/// ONNX's number of float32, and of int64.
const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// The most bytes of a protobuf message.
const LARGEST: u64 = (1 << 31) - 1;

/// The numbers of the fields that are written here and not by prost.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;

/// Writes a network as an ONNX file with opset 17 (20 if it has GELU) and any number of images in a batch.
///
/// `read` gives each parameter when its turn comes, so that no second copy of all of them is made.
///
/// # Errors
/// [`OnnxError::Parameter`] where `read` fails or gives another number of values than the shape has, [`OnnxError::Write`]
/// where the system cannot write, [`OnnxError::Export`] if the file would have 2 GiB or more.
pub fn write<W: Write>(
    graph: &Graph,
    mut read: impl FnMut(&ParamSpec) -> Result<Vec<f32>, Box<dyn Error + Send + Sync>>,
    mut out: W,
) -> Result<()> {
    let mut exporter = Exporter {
        proto: GraphProto {
            name: "network".to_owned(),
            input: vec![value_info(graph, graph.input())],
            output: vec![value_info(graph, graph.output())],
            ..Default::default()
        },
        opset: OPSET,
        names: graph.nodes().iter().map(|node| node.name.clone()).collect(),
    };
    exporter.names.extend(graph.params().into_iter().map(|param| param.name));
    for node in graph.nodes() {
        let place = Place {
            name: node.name.clone(),
            inputs: node.inputs.iter().map(|input| graph.node(*input).name.clone()).collect(),
            params: graph.params_of(node).into_iter().map(|param| param.name).collect(),
            input_shape: graph.input_shapes(node).next().unwrap_or(&node.shape),
        };
        exporter.operation(&node.op, &place);
    }

    let headers: Vec<(ParamSpec, Vec<u8>)> = graph
        .params()
        .into_iter()
        .map(|param| {
            let dims = param.shape.iter().map(|dim| *dim as i64).collect();
            let header =
                TensorProto { dims, data_type: FLOAT, name: param.name.clone(), ..Default::default() };
            (param, header.encode_to_vec())
        })
        .collect();
    let raw_length = |param: &ParamSpec| param.shape.iter().map(|dim| *dim as u64).product::<u64>() * 4;
    let tensor_length = |(param, header): &(ParamSpec, Vec<u8>)| {
        let raw = raw_length(param);
        (header.len() + key_len(RAW_DATA) + encoded_len_varint(raw)) as u64 + raw
    };
    let field = |length: u64| (key_len(INITIALIZER) + encoded_len_varint(length)) as u64 + length;
    let frame = exporter.proto.encode_to_vec();
    let graph_length =
        frame.len() as u64 + headers.iter().map(|tensor| field(tensor_length(tensor))).sum::<u64>();
    let head = ModelProto {
        ir_version: if exporter.opset < 20 { IR_VERSION } else { IR_VERSION_20 },
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: exporter.opset }],
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    if graph_length > LARGEST - head.encoded_len() as u64 - 16 {
        let reason = format!("{graph_length} bytes are more than the 2 GiB that an ONNX file can have");
        return Err(OnnxError::Export { node: "the network".to_owned(), reason });
    }

    let mut bytes = head.encode_to_vec();
    encode_key(GRAPH, WireType::LengthDelimited, &mut bytes);
    encode_varint(graph_length, &mut bytes);
    bytes.extend(frame);
    out.write_all(&bytes).map_err(OnnxError::Write)?;
    for tensor in &headers {
        let (param, header) = tensor;
        let error = |source| OnnxError::Parameter { name: param.name.clone(), source };
        let values = read(param).map_err(error)?;
        if values.len() as u64 * 4 != raw_length(param) {
            let reason = format!("{} values do not have the shape {:?}", values.len(), param.shape);
            return Err(error(reason.into()));
        }
        bytes.clear();
        encode_key(INITIALIZER, WireType::LengthDelimited, &mut bytes);
        encode_varint(tensor_length(tensor), &mut bytes);
        bytes.extend(header);
        encode_key(RAW_DATA, WireType::LengthDelimited, &mut bytes);
        encode_varint(raw_length(param), &mut bytes);
        for piece in values.chunks(1 << 14) {
            bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
            out.write_all(&bytes).map_err(OnnxError::Write)?;
            bytes.clear();
        }
        out.write_all(&bytes).map_err(OnnxError::Write)?;
    }
    out.flush().map_err(OnnxError::Write)
}

/// The name and type of a value, with any number of images.
fn value_info(graph: &Graph, value: cnn_graph::ValueId) -> ValueInfoProto {
    let node = graph.node(value);
    let batch = DimensionProto { dim_value: None, dim_param: Some("N".to_owned()) };
    let dims = node.shape.dims().iter();
    let dims = dims.map(|dim| DimensionProto { dim_value: Some(*dim as i64), dim_param: None });
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(dims).collect() };
    let tensor_type = TensorTypeProto { elem_type: FLOAT, shape: Some(shape) };
    ValueInfoProto { name: node.name.clone(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// A node of the graph as an operator writes it. A value has its node's name.
#[derive(Debug)]
pub(crate) struct Place<'g> {
    pub name: String,
    pub inputs: Vec<String>,
    /// The names of the parameters.
    pub params: Vec<String>,
    /// The shape of the first input.
    pub input_shape: &'g Shape,
}

/// A setting of an operator.
#[derive(Debug)]
pub(crate) struct Attribute(AttributeProto);

impl Attribute {
    pub fn int(name: &str, value: usize) -> Self {
        Self::new(name, AttributeProto { i: value as i64, r#type: AttributeProto::INT, ..Default::default() })
    }

    pub fn ints(name: &str, values: &[usize]) -> Self {
        let ints = values.iter().map(|value| *value as i64).collect();
        Self::new(name, AttributeProto { ints, r#type: AttributeProto::INTS, ..Default::default() })
    }

    pub fn float(name: &str, value: f64) -> Self {
        let f = value as f32;
        Self::new(name, AttributeProto { f, r#type: AttributeProto::FLOAT, ..Default::default() })
    }

    pub fn word(name: &str, value: &'static str) -> Self {
        let s = Bytes::from_static(value.as_bytes());
        Self::new(name, AttributeProto { s, r#type: AttributeProto::STRING, ..Default::default() })
    }

    fn new(name: &str, attribute: AttributeProto) -> Self {
        Self(AttributeProto { name: name.to_owned(), ..attribute })
    }
}

/// The file's network while it is written.
#[derive(Debug)]
pub(crate) struct Exporter {
    proto: GraphProto,
    opset: i64,
    names: HashSet<String>,
}

impl Exporter {
    fn operation(&mut self, op: &Op, place: &Place) {
        match op {
            Op::Input(_) => {}
            Op::Conv(op) => ops::conv::export(self, op, place),
            Op::BatchNorm(op) => ops::batch_norm::export(self, op, place),
            Op::Linear(_) => ops::linear::export(self, place),
            Op::Activation(op) => ops::activation::export(self, *op, place),
            Op::MaxPool(op) => ops::pool::export_max(self, op, place),
            Op::AvgPool(op) => ops::pool::export_average(self, op, place),
            Op::AdaptiveAvgPool(op) => ops::pool::export_adaptive(self, op, place),
            Op::GlobalAvgPool(_) => ops::pool::export_global(self, place),
            Op::Add(_) => ops::arithmetic::export_add(self, place),
            Op::Mul(_) => ops::arithmetic::export_mul(self, place),
            Op::Affine(op) => ops::arithmetic::export_affine(self, op, place),
            Op::Concat(op) => ops::concat::export(self, op, place),
            Op::Pad(op) => ops::pad::export(self, op, place),
            Op::Slice(op) => ops::slice::export(self, op, place),
            Op::Flatten(_) => ops::reshape::export_flatten(self, place),
            Op::Reshape(op) => ops::reshape::export_reshape(self, op, place),
            Op::Transpose(op) => ops::transpose::export(self, op, place),
            Op::Dropout(op) => ops::dropout::export(self, op, place),
        }
    }

    /// The operator that gives the node's value, of the node's inputs and these.
    pub fn node(&mut self, operator: &str, place: &Place, more: &[String], attributes: Vec<Attribute>) {
        let inputs = [&place.inputs[..], more].concat();
        self.push(operator, place.name.clone(), inputs, attributes);
    }

    /// The operator that gives the node's value, of the node's inputs and its parameters.
    pub fn node_with_params(&mut self, operator: &str, place: &Place, attributes: Vec<Attribute>) {
        self.node(operator, place, &place.params, attributes);
    }

    /// The operator that gives the node's value, of other inputs than the node's.
    pub fn node_from(
        &mut self,
        operator: &str,
        place: &Place,
        inputs: &[String],
        attributes: Vec<Attribute>,
    ) {
        self.push(operator, place.name.clone(), inputs.to_vec(), attributes);
    }

    /// An operator before that, whose value is given.
    pub fn aside(
        &mut self,
        operator: &str,
        place: &Place,
        suffix: &str,
        inputs: &[String],
        attributes: Vec<Attribute>,
    ) -> String {
        let name = self.unique(place, suffix);
        self.push(operator, name.clone(), inputs.to_vec(), attributes);
        name
    }

    /// A constant tensor; gives its name.
    pub fn floats(&mut self, place: &Place, suffix: &str, dims: Vec<usize>, values: &[f64]) -> String {
        let raw = values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
        self.tensor(place, suffix, FLOAT, dims, raw)
    }

    /// A constant row of whole numbers; gives its name.
    pub fn ints(&mut self, place: &Place, suffix: &str, values: &[usize]) -> String {
        let raw = values.iter().flat_map(|value| (*value as i64).to_le_bytes()).collect();
        self.tensor(place, suffix, INT64, vec![values.len()], raw)
    }

    /// Says that an operator is as new as that.
    pub fn needs_opset(&mut self, opset: i64) {
        self.opset = self.opset.max(opset);
    }

    fn tensor(&mut self, place: &Place, suffix: &str, kind: i32, dims: Vec<usize>, raw: Vec<u8>) -> String {
        let name = self.unique(place, suffix);
        self.proto.initializer.push(TensorProto {
            dims: dims.into_iter().map(|dim| dim as i64).collect(),
            data_type: kind,
            name: name.clone(),
            raw_data: raw.into(),
            ..Default::default()
        });
        name
    }

    fn push(&mut self, operator: &str, name: String, input: Vec<String>, attributes: Vec<Attribute>) {
        self.proto.node.push(NodeProto {
            input,
            output: vec![name.clone()],
            name,
            op_type: operator.to_owned(),
            attribute: attributes.into_iter().map(|attribute| attribute.0).collect(),
            ..Default::default()
        });
    }

    /// A name that no other value has.
    fn unique(&mut self, place: &Place, suffix: &str) -> String {
        let mut name = format!("{}.{suffix}", place.name);
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        name
    }
}
