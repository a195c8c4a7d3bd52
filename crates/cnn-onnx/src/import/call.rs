//! A node of the file as an operator sees it.

use std::rc::Rc;

use cnn_graph::Shape;
use cnn_graph::ops::{Op, Padding};

use crate::error::OnnxError;
use crate::import::constant::{Constant, Data, Int};
use crate::import::draft::{Draft, DraftOp};
use crate::import::{Importer, Value};
use crate::params::Values;
use crate::proto::{AttributeProto, NodeProto, TensorProto};
use crate::tensor::MAX_RANK;

/// Why nothing comes of a node.
#[derive(Debug)]
pub(crate) enum Problem {
    /// No graph can have it: what is the matter, and what can be done.
    Unsupported(String),
    /// It contradicts itself or what it is given.
    Invalid(String),
    /// Something else is wrong.
    Other(Box<OnnxError>),
}

impl From<OnnxError> for Problem {
    fn from(error: OnnxError) -> Self {
        Self::Other(Box::new(error))
    }
}

/// What comes of a node.
pub(crate) type Outcome<T = Vec<Value>> = Result<T, Problem>;

/// The node is right, but no graph can have it.
pub(crate) fn unsupported<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Problem::Unsupported(reason.into()))
}

/// The node is wrong.
pub(crate) fn invalid<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Problem::Invalid(reason.into()))
}

/// A node with its inputs.
#[derive(Debug)]
pub(crate) struct Call<'n> {
    pub node: &'n NodeProto,
    pub inputs: Vec<Value>,
}

impl<'n> Call<'n> {
    pub fn new(node: &'n NodeProto, inputs: Vec<Value>) -> Self {
        Self { node, inputs }
    }

    /// An input, or [`Value::Missing`].
    pub fn input(&self, index: usize) -> &Value {
        self.inputs.get(index).unwrap_or(&Value::Missing)
    }

    /// An input that is computed from the image.
    pub fn data(&self, index: usize) -> Outcome<usize> {
        match self.input(index) {
            Value::Data(draft) => Ok(*draft),
            Value::Constant(_) => {
                unsupported(format!("its input {index} is a constant, not computed from the image"))
            }
            _ => invalid(format!("has no input {index}")),
        }
    }

    /// An input that may be missing and must be constant.
    pub fn constant(&self, index: usize) -> Outcome<Option<&Rc<Constant>>> {
        match self.input(index) {
            Value::Missing => Ok(None),
            Value::Constant(constant) => Ok(Some(constant)),
            _ => unsupported(format!(
                "its input {index} is computed from the image; only a constant can be read"
            )),
        }
    }

    /// An input that must be constant.
    pub fn required(&self, index: usize) -> Outcome<&Rc<Constant>> {
        match self.constant(index)? {
            Some(constant) => Ok(constant),
            None => invalid(format!("has no input {index}")),
        }
    }

    fn attribute(&self, name: &str, kind: i32) -> Outcome<Option<&'n AttributeProto>> {
        match self.node.attribute.iter().find(|attribute| attribute.name == name) {
            // Old writers leave the type out.
            Some(attribute) if attribute.r#type == kind || attribute.r#type == 0 => Ok(Some(attribute)),
            Some(attribute) => invalid(format!("its attribute `{name}` has the type {}", attribute.r#type)),
            None => Ok(None),
        }
    }

    /// Whether there is an attribute of this name.
    pub fn has(&self, name: &str) -> bool {
        self.node.attribute.iter().any(|attribute| attribute.name == name)
    }

    /// A whole number.
    pub fn int(&self, name: &str, default: i64) -> Outcome<i64> {
        Ok(self.attribute(name, AttributeProto::INT)?.map_or(default, |attribute| attribute.i))
    }

    /// A number: the shortest decimal that is this float32, since exporters write what was a decimal.
    pub fn float(&self, name: &str, default: f64) -> Outcome<f64> {
        let attribute = self.attribute(name, AttributeProto::FLOAT)?;
        Ok(attribute.map_or(default, |attribute| decimal(attribute.f)))
    }

    /// Whole numbers.
    pub fn ints(&self, name: &str) -> Outcome<Option<&'n [i64]>> {
        Ok(self.attribute(name, AttributeProto::INTS)?.map(|attribute| attribute.ints.as_slice()))
    }

    /// Numbers.
    pub fn floats(&self, name: &str) -> Outcome<Option<&'n [f32]>> {
        Ok(self.attribute(name, AttributeProto::FLOATS)?.map(|attribute| attribute.floats.as_slice()))
    }

    /// A word.
    pub fn word(&self, name: &str, default: &'static str) -> Outcome<&'n str> {
        match self.attribute(name, AttributeProto::STRING)? {
            Some(attribute) => std::str::from_utf8(&attribute.s)
                .map_err(|_| Problem::Invalid(format!("its attribute `{name}` is no text"))),
            None => Ok(default),
        }
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Outcome<Option<&'n TensorProto>> {
        Ok(self.attribute(name, AttributeProto::TENSOR)?.and_then(|attribute| attribute.t.as_ref()))
    }

    /// Two whole numbers of at least 1, for height and width.
    pub fn pair(&self, name: &str, default: [usize; 2]) -> Outcome<[usize; 2]> {
        match self.ints(name)? {
            None => Ok(default),
            Some(&[height, width]) if height > 0 && width > 0 => Ok([height, width].map(|x| x as usize)),
            Some(other) if other.len() == 2 => invalid(format!("{name} of {other:?}")),
            Some(other) => unsupported(format!(
                "has {} {name}; only images with height and width can be read",
                other.len()
            )),
        }
    }

    /// The padding of a window with these settings over an image of this size.
    pub fn padding(
        &self,
        size: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
    ) -> Outcome<Padding> {
        let same = |lower: bool| {
            let [rows, columns] = [0, 1].map(|axis| {
                let span = (kernel[axis] as u128 - 1) * dilation[axis] as u128 + 1;
                let needed = (size[axis].div_ceil(stride[axis]) as u128).saturating_sub(1)
                    * stride[axis] as u128
                    + span;
                let total = usize::try_from(needed.saturating_sub(size[axis] as u128)).unwrap_or(usize::MAX);
                let (less, more) = (total / 2, total - total / 2);
                if lower { [more, less] } else { [less, more] }
            });
            Padding { top: rows[0], bottom: rows[1], left: columns[0], right: columns[1] }
        };
        match self.word("auto_pad", "NOTSET")? {
            "VALID" => Ok(Padding::ZERO),
            "SAME_UPPER" => Ok(same(false)),
            "SAME_LOWER" => Ok(same(true)),
            "NOTSET" => match self.ints("pads")? {
                None => Ok(Padding::ZERO),
                Some(&[top, left, bottom, right]) => {
                    let size = |pad: i64| {
                        usize::try_from(pad).map_err(|_| Problem::Invalid(format!("a padding of {pad}")))
                    };
                    Ok(Padding {
                        top: size(top)?,
                        bottom: size(bottom)?,
                        left: size(left)?,
                        right: size(right)?,
                    })
                }
                Some(pads) => invalid(format!("{} pads are not 4", pads.len())),
            },
            other => invalid(format!("auto_pad `{other}`")),
        }
    }
}

/// The shortest decimal that rounds to this float32.
pub(crate) fn decimal(x: f32) -> f64 {
    format!("{x:e}").parse().unwrap_or(f64::from(x))
}

impl Importer<'_> {
    /// The shape of a value for one image.
    pub fn shape(&self, draft: usize) -> &Shape {
        &self.drafts.nodes[draft].shape
    }

    /// Channels, height and width of a value.
    pub fn image(&self, draft: usize) -> Outcome<[usize; 3]> {
        let shape = self.shape(draft);
        match shape.image() {
            Some(image) => Ok(image),
            None => unsupported(format!(
                "its input has the shape {shape} for one image; only [C, H, W] can be read"
            )),
        }
    }

    /// Adds the node that is what the file's node is about.
    pub fn push(&mut self, op: impl Into<Op>, inputs: &[usize]) -> Outcome<usize> {
        self.push_draft(DraftOp::Graph(op.into()), inputs, Vec::new(), true)
    }

    /// Adds a node with parameters.
    pub fn push_with(
        &mut self,
        op: impl Into<Op>,
        inputs: &[usize],
        params: Vec<(&'static str, Values)>,
    ) -> Outcome<usize> {
        self.push_draft(DraftOp::Graph(op.into()), inputs, params, true)
    }

    /// Adds a node that helps the main one.
    pub fn push_aside(&mut self, op: impl Into<Op>, inputs: &[usize]) -> Outcome<usize> {
        self.push_draft(DraftOp::Graph(op.into()), inputs, Vec::new(), false)
    }

    pub fn push_draft(
        &mut self,
        op: DraftOp,
        inputs: &[usize],
        params: Vec<(&'static str, Values)>,
        main: bool,
    ) -> Outcome<usize> {
        let shapes: Vec<&Shape> = inputs.iter().map(|input| self.shape(*input)).collect();
        let shape = match &op {
            DraftOp::Graph(op) => op.shape(&shapes).map_err(Problem::Invalid)?,
            DraftOp::Erf => shapes[0].clone(),
        };
        if shape.rank() > MAX_RANK {
            return invalid(format!("{} dimensions are more than {MAX_RANK}", shape.rank()));
        }
        self.drafts.nodes.push(Draft {
            op,
            inputs: inputs.to_vec(),
            shape,
            params,
            hint: self.hint.clone(),
            main,
        });
        Ok(self.drafts.nodes.len() - 1)
    }

    /// The dimension of an image's value that ONNX's `axis` is, which counts the batch.
    pub fn axis(&self, draft: usize, axis: i64) -> Outcome<usize> {
        match onnx_axis(axis, self.shape(draft).rank() + 1)? {
            0 => unsupported("goes over the images of a batch; a network treats each image by itself"),
            axis => Ok(axis - 1),
        }
    }

    /// Takes from what constant arithmetic may use.
    pub fn spend(&mut self, elements: usize) -> Outcome<()> {
        match self.budget.checked_sub(elements) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => invalid("the file's constant arithmetic is far larger than the file"),
        }
    }

    /// A constant's numbers.
    pub fn floats(&mut self, constant: &Constant) -> Outcome<Vec<f64>> {
        self.spend(constant.elements())?;
        constant.floats()
    }

    /// A constant that is one number.
    pub fn scalar(&mut self, constant: &Constant) -> Outcome<f64> {
        match self.floats(constant)?[..] {
            [value] => Ok(value),
            _ => unsupported(format!("a constant of {:?} numbers where one can be read", constant.dims)),
        }
    }

    /// A constant's whole numbers, one of which may be the batch.
    pub fn ints(&mut self, constant: &Constant) -> Outcome<Vec<Int>> {
        self.spend(constant.elements())?;
        constant.ints()
    }

    /// A constant's whole numbers, none of which is the batch.
    pub fn known_ints(&mut self, constant: &Constant) -> Outcome<Vec<i64>> {
        self.ints(constant)?.into_iter().map(Int::known).collect()
    }

    /// Axes from an input, or from the attribute that older versions have.
    pub fn axes(&mut self, call: &Call, input: usize) -> Outcome<Option<Vec<i64>>> {
        if let Some(axes) = call.ints("axes")? {
            return Ok(Some(axes.to_vec()));
        }
        match call.constant(input)?.cloned() {
            Some(axes) => Ok(Some(self.known_ints(&axes)?)),
            None => Ok(None),
        }
    }

    /// A constant as a result.
    pub fn constant(&mut self, constant: Constant) -> Outcome {
        if !constant.is_stored() {
            self.spend(constant.elements())?;
        }
        if constant.dims.len() > MAX_RANK {
            return invalid(format!("{} dimensions are more than {MAX_RANK}", constant.dims.len()));
        }
        Ok(vec![Value::Constant(Rc::new(constant))])
    }

    /// A constant of these dimensions, made of another one of the same rank: `source` says which index of each
    /// dimension is taken for an index of the result.
    pub fn taken(
        &mut self,
        constant: &Constant,
        dims: Vec<usize>,
        source: impl Fn(usize, usize) -> usize,
    ) -> Outcome {
        let elements = dims.iter().product::<usize>();
        self.spend(elements)?;
        let place = |flat: usize| {
            let (mut rest, mut stride, mut place) = (flat, 1, 0);
            for axis in (0..dims.len()).rev() {
                place += source(axis, rest % dims[axis]) * stride;
                rest /= dims[axis];
                stride *= constant.dims[axis];
            }
            place
        };
        let data = if constant.is_int() {
            let ints = self.ints(constant)?;
            Data::Ints((0..elements).map(|i| ints[place(i)]).collect())
        } else {
            let floats = self.floats(constant)?;
            Data::Floats((0..elements).map(|i| floats[place(i)]).collect())
        };
        self.constant(Constant { dims, data })
    }

    /// A value that is there already as a result.
    pub fn same(&self, value: &Value) -> Outcome {
        Ok(vec![value.clone()])
    }
}

/// An axis counted from the front.
pub(crate) fn onnx_axis(axis: i64, rank: usize) -> Outcome<usize> {
    let from_front = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    match from_front.and_then(|axis| usize::try_from(axis).ok()).filter(|axis| *axis < rank) {
        Some(axis) => Ok(axis),
        None => invalid(format!("there is no axis {axis} of {rank}")),
    }
}
