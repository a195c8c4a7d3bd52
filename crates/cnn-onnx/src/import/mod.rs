//! From the nodes of a file to a graph.
//!
//! Each node of the file is either constant, and then computed, or becomes nodes of a draft. When all are there, patterns
//! of several nodes become one ([`patterns`]), small things are tidied ([`tidy`]), what the output does not depend on is
//! left out, and what is left gets its names ([`names`]).

pub(crate) mod call;
pub(crate) mod constant;
pub(crate) mod draft;
mod names;
mod patterns;
mod tidy;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use cnn_graph::{Graph, GraphBuilder, Shape};

use crate::error::{OnnxError, Result, Unsupported, UnsupportedNode};
use crate::import::call::{Call, Problem};
use crate::import::constant::Constant;
use crate::import::draft::{Draft, DraftOp, Drafts};
use crate::import::names::Hint;
use crate::model::Options;
use crate::ops;
use crate::params::Params;
use crate::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::tensor::{DType, Origin};

/// A value of the file.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// An input that a node leaves out.
    Missing,
    /// What the network computes from an image: the output of a draft's node. ONNX's shape has the batch before it.
    Data(usize),
    /// Known before any image is there.
    Constant(Rc<Constant>),
    /// What comes of a node that cannot be read.
    Unknown,
}

/// How many images the file says there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batch {
    /// Any number.
    Free,
    /// So many.
    Fixed(i64),
}

/// What is known while a file is read.
pub(crate) struct Importer<'f> {
    pub batch: Batch,
    pub drafts: Drafts,
    /// How many more numbers constant arithmetic may make, so that a small file cannot take much memory.
    pub budget: usize,
    /// What comes of the current node.
    pub hint: Rc<Hint>,
    pub origin: Origin<'f>,
}

/// The graph and the parameters of a file.
pub(crate) fn import(proto: &GraphProto, origin: Origin, options: &Options) -> Result<(Graph, Params)> {
    let initializers: HashSet<&str> = proto.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> =
        proto.input.iter().filter(|input| !initializers.contains(input.name.as_str())).collect();
    let names = |values: &[&ValueInfoProto]| {
        values.iter().map(|value| format!("`{}`", value.name)).collect::<Vec<_>>().join(", ")
    };
    let [input] = inputs[..] else {
        let reason =
            format!("a network has one input, an image; this one has {}: {}", inputs.len(), names(&inputs));
        return Err(OnnxError::Interface(reason));
    };
    let outputs: Vec<&ValueInfoProto> = proto.output.iter().collect();
    let [output] = outputs[..] else {
        let reason = format!(
            "a network has one output, the logits; this one has {}: {}; export it in evaluation mode, or cut the \
             others off by onnx.utils.extract_model",
            outputs.len(),
            names(&outputs)
        );
        return Err(OnnxError::Interface(reason));
    };
    let (batch, shape) = input_shape(input, options)?;

    let mut importer = Importer {
        batch,
        drafts: Drafts::new(shape.clone()),
        budget: (1 << 16) + 16 * origin.bytes.len(),
        hint: Rc::default(),
        origin,
    };
    let mut values: HashMap<&str, Value> = HashMap::new();
    for tensor in &proto.initializer {
        // One of a type that is not supported is an error only if something takes it.
        let value = match DType::find(tensor.data_type) {
            Some(_) => Value::Constant(Rc::new(Constant::stored(importer.origin.tensor(tensor)?))),
            None => Value::Unknown,
        };
        values.insert(&tensor.name, value);
    }
    values.insert(&input.name, Value::Data(0));

    let (nodes, needed) = needed(&proto.node, &output.name);
    let mut unsupported: Vec<UnsupportedNode> = Vec::new();
    for node in nodes {
        importer.hint = Rc::new(Hint::of(node));
        let results = importer.node(node, &values)?;
        let results = results.unwrap_or_else(|reason| {
            let (node, operator) = (importer.hint.label(), operator(node));
            unsupported.extend(reason.map(|reason| UnsupportedNode { node, operator, reason }));
            Vec::new()
        });
        let read = !results.is_empty();
        let mut results = results.into_iter();
        for name in &node.output {
            let value = results.next();
            if value.is_none() && read && needed.contains(name.as_str()) {
                unsupported.push(UnsupportedNode {
                    node: importer.hint.label(),
                    operator: operator(node),
                    reason: "has a further output that something takes; only the first can be read"
                        .to_owned(),
                });
            }
            let value = value.unwrap_or(Value::Unknown);
            if name.is_empty() {
                continue;
            }
            if values.insert(name, value).is_some() {
                return Err(OnnxError::Format(format!("two nodes give the value `{name}`")));
            }
        }
    }

    let output_draft = match values.get(output.name.as_str()) {
        Some(Value::Data(draft)) => Some(*draft),
        Some(Value::Unknown) if !unsupported.is_empty() => None,
        Some(Value::Unknown) => {
            let strange = |tensor: &&TensorProto| {
                needed.contains(tensor.name.as_str()) && DType::find(tensor.data_type).is_none()
            };
            if let Some(tensor) = proto.initializer.iter().find(strange) {
                importer.origin.tensor(tensor)?;
            }
            None
        }
        _ => {
            let reason = format!("the output `{}` does not depend on the image", output.name);
            return Err(OnnxError::Interface(reason));
        }
    };
    let (mut drafts, mut budget) = (importer.drafts, importer.budget);
    if output_draft.is_none() && unsupported.is_empty() {
        return Err(OnnxError::Interface(format!("the output `{}` cannot be read", output.name)));
    }
    if let Some(output) = output_draft {
        drafts.output = output;
        patterns::join(&mut drafts);
        tidy::tidy(&mut drafts, &mut budget);
        drafts.prune();
        let left = drafts.nodes.iter().filter_map(Draft::unsupported);
        unsupported.extend(left);
    }
    match unsupported.is_empty() {
        true => build(drafts, shape),
        false => Err(OnnxError::Unsupported(Unsupported { nodes: unsupported })),
    }
}

/// The graph of a draft in which all nodes are a graph's.
fn build(drafts: Drafts, shape: Shape) -> Result<(Graph, Params)> {
    let mut builder = GraphBuilder::new(shape);
    let mut params = Params::default();
    let mut values = vec![builder.input()];
    let names = names::assign(&drafts.nodes);
    for (draft, name) in drafts.nodes.into_iter().zip(names).skip(1) {
        let DraftOp::Graph(op) = draft.op else { continue };
        let inputs: Vec<_> = draft.inputs.iter().map(|input| values[*input]).collect();
        let shapes: Vec<&Shape> = inputs.iter().map(|input| builder.shape(*input)).collect();
        let mut given: HashMap<&str, _> = draft.params.into_iter().collect();
        for (suffix, shape) in op.params(&shapes) {
            let name = format!("{name}.{suffix}");
            let values = given.remove(suffix).ok_or_else(|| OnnxError::NoParameter(name.clone()))?;
            params.insert(name, shape, values)?;
        }
        values.push(builder.node(name, op, &inputs));
    }
    let output = values[drafts.output];
    Ok((builder.finish(output)?, params))
}

/// The nodes that the output depends on, in the file's order, and the names of the values that it depends on.
fn needed<'f>(nodes: &'f [NodeProto], output: &'f str) -> (Vec<&'f NodeProto>, HashSet<&'f str>) {
    let mut needed: HashSet<&str> = HashSet::from([output]);
    let mut kept: Vec<&NodeProto> = Vec::new();
    for node in nodes.iter().rev() {
        if node.output.iter().any(|name| !name.is_empty() && needed.contains(name.as_str())) {
            needed.extend(node.input.iter().map(String::as_str));
            kept.push(node);
        }
    }
    needed.remove("");
    kept.reverse();
    (kept, needed)
}

/// The batch and an image's shape.
fn input_shape(input: &ValueInfoProto, options: &Options) -> Result<(Batch, Shape)> {
    let error = |reason: String| OnnxError::Interface(format!("the input `{}` {reason}", input.name));
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(|| error("is not a tensor".to_owned()))?;
    if !DType::find(tensor.elem_type).is_some_and(DType::is_float) {
        return Err(error(format!(
            "is not of floating-point numbers, but of ONNX's type {}",
            tensor.elem_type
        )));
    }
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    let image = match dims.len() {
        4 => true,
        2 => false,
        rank => {
            return Err(error(format!(
                "has {rank} dimensions; images [N, C, H, W] or rows of features [N, F] can be read"
            )));
        }
    };
    let known = |dim: usize| dims[dim].dim_value.filter(|value| *value > 0);
    let batch = known(0).map_or(Batch::Free, Batch::Fixed);
    let mut shape = Vec::new();
    for dim in 1..dims.len() {
        let asked = options.image_size.filter(|_| image && dim > 1).map(|size| size[dim - 2]);
        let (what, place) = (["channels", "height", "width"][dim - 1], dims[dim].dim_param.as_deref());
        shape.push(match (known(dim), asked) {
            (Some(value), Some(asked)) if value != asked as i64 => {
                return Err(error(format!("has a {what} of {value} in the file, not {asked}")));
            }
            (Some(value), _) => usize::try_from(value).unwrap_or(usize::MAX),
            (None, Some(asked)) => asked,
            (None, None) if image && dim > 1 => {
                let place = place.unwrap_or("?");
                return Err(error(format!("leaves its {what} open (`{place}`): say the image size")));
            }
            (None, None) => return Err(error(format!("leaves dimension {dim} open; only the batch may be"))),
        });
    }
    let text = format!("{shape:?}");
    let shape = Shape::new(shape).ok_or_else(|| error(format!("is too large: {text}")))?;
    Ok((batch, shape))
}

/// The operator's name, with its domain if it is none of ONNX's own.
fn operator(node: &NodeProto) -> String {
    match node.domain.as_str() {
        "" | "ai.onnx" => node.op_type.clone(),
        domain => format!("{domain}.{}", node.op_type),
    }
}

impl Importer<'_> {
    /// What comes of a node; `Err(Some(reason))` if it cannot be read, `Err(None)` if something before it cannot.
    fn node(
        &mut self,
        node: &NodeProto,
        values: &HashMap<&str, Value>,
    ) -> Result<Result<Vec<Value>, Option<String>>> {
        let standard = matches!(node.domain.as_str(), "" | "ai.onnx");
        let Some(import) = ops::find(&node.op_type).filter(|_| standard) else {
            return Ok(Err(Some(ops::advice(node, standard))));
        };
        let mut inputs: Vec<Value> = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(match (name.as_str(), values.get(name.as_str())) {
                ("", _) => Value::Missing,
                (_, Some(value)) => value.clone(),
                (_, None) => {
                    let reason = format!("its input `{name}` is given by no node before it");
                    return Err(self.invalid(node, reason));
                }
            });
        }
        let call = Call::new(node, inputs);
        if call.inputs.iter().any(|input| matches!(input, Value::Unknown)) {
            // Two things that an image determines are never multiplied as matrices, whatever they are.
            return Ok(Err(ops::linear::two_computed(&call).then(|| ops::linear::COMPUTED.to_owned())));
        }
        match import(self, &call) {
            Ok(values) => Ok(Ok(values)),
            Err(Problem::Unsupported(reason)) => Ok(Err(Some(reason))),
            Err(Problem::Invalid(reason)) => Err(self.invalid(node, reason)),
            Err(Problem::Other(error)) => Err(*error),
        }
    }

    fn invalid(&self, node: &NodeProto, reason: String) -> OnnxError {
        OnnxError::Node { node: self.hint.label(), operator: operator(node), reason }
    }
}
