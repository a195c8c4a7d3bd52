//! Sums and products: of values, with constants for each channel, and of constants with each other.

use cnn_graph::Shape;
use cnn_graph::ops::{Add, Affine, Mul};

use crate::export::{Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, unsupported};
use crate::import::constant::{Constant, Int};
use crate::import::{Importer, Value};
use crate::params::Values;

/// The inputs of an operation on two values.
enum Pair<'c> {
    Values(usize, usize),
    /// A value, a constant, and whether the constant comes first.
    Mixed(usize, &'c Constant, bool),
    Constants(&'c Constant, &'c Constant),
}

fn pair<'c>(call: &'c Call) -> Outcome<Pair<'c>> {
    match &call.inputs[..] {
        [Value::Data(a), Value::Data(b)] => Ok(Pair::Values(*a, *b)),
        [Value::Data(x), Value::Constant(constant)] => Ok(Pair::Mixed(*x, constant, false)),
        [Value::Constant(constant), Value::Data(x)] => Ok(Pair::Mixed(*x, constant, true)),
        [Value::Constant(a), Value::Constant(b)] => Ok(Pair::Constants(a, b)),
        _ => invalid(format!("takes 2 inputs, not {}", call.inputs.len())),
    }
}

pub(crate) fn add(importer: &mut Importer, call: &Call) -> Outcome {
    match pair(call)? {
        Pair::Values(a, b) => sum(importer, a, b),
        Pair::Mixed(x, constant, _) => {
            let shift = importer.per_channel(constant, x)?;
            affine(importer, x, vec![1.0], shift)
        }
        Pair::Constants(a, b) => folded(importer, a, b, i64::checked_add, |a, b| a + b, 0),
    }
}

pub(crate) fn sub(importer: &mut Importer, call: &Call) -> Outcome {
    match pair(call)? {
        Pair::Values(a, b) => {
            let minus = importer.push_aside(Affine { scale: vec![-1.0], shift: vec![0.0] }, &[b])?;
            sum(importer, a, minus)
        }
        Pair::Mixed(x, constant, true) => {
            let shift = importer.per_channel(constant, x)?;
            affine(importer, x, vec![-1.0], shift)
        }
        Pair::Mixed(x, constant, false) => {
            let shift = importer.per_channel(constant, x)?.into_iter().map(|c| -c).collect();
            affine(importer, x, vec![1.0], shift)
        }
        Pair::Constants(a, b) => folded(importer, a, b, i64::checked_sub, |a, b| a - b, 0),
    }
}

pub(crate) fn mul(importer: &mut Importer, call: &Call) -> Outcome {
    match pair(call)? {
        Pair::Values(a, b) => product(importer, a, b),
        Pair::Mixed(x, constant, _) => {
            let scale = importer.per_channel(constant, x)?;
            affine(importer, x, scale, vec![0.0])
        }
        Pair::Constants(a, b) => folded(importer, a, b, i64::checked_mul, |a, b| a * b, 1),
    }
}

pub(crate) fn div(importer: &mut Importer, call: &Call) -> Outcome {
    match pair(call)? {
        Pair::Mixed(x, constant, false) => {
            let scale: Vec<f64> = importer.per_channel(constant, x)?.into_iter().map(f64::recip).collect();
            if scale.iter().any(|scale| !scale.is_finite()) {
                return invalid("divides by zero");
            }
            affine(importer, x, scale, vec![0.0])
        }
        Pair::Values(..) | Pair::Mixed(..) => {
            unsupported("divides by what is computed from the image; only constants can be divided by")
        }
        Pair::Constants(a, b) => folded(importer, a, b, i64::checked_div, |a, b| a / b, 1),
    }
}

pub(crate) fn neg(importer: &mut Importer, call: &Call) -> Outcome {
    match call.input(0) {
        Value::Constant(constant) => {
            let (constant, minus) = (constant.clone(), Constant::from_ints(Vec::new(), vec![Int::Known(-1)]));
            folded(importer, &constant, &minus, i64::checked_mul, |a, b| a * b, 1)
        }
        _ => affine(importer, call.data(0)?, vec![-1.0], vec![0.0]),
    }
}

/// Squares and cubes.
pub(crate) fn pow(importer: &mut Importer, call: &Call) -> Outcome {
    match pair(call)? {
        Pair::Mixed(x, exponent, false) => {
            let exponent = importer.scalar(exponent)?;
            if exponent == 1.0 {
                return Ok(vec![Value::Data(x)]);
            }
            if exponent != 2.0 && exponent != 3.0 {
                return unsupported(format!("is a power of {exponent}; only squares and cubes can be read"));
            }
            let square = importer.push(Mul, &[x, x])?;
            let power = if exponent == 2.0 { square } else { importer.push(Mul, &[square, x])? };
            Ok(vec![Value::Data(power)])
        }
        Pair::Constants(a, b) => folded(importer, a, b, |_, _| None, f64::powf, 1),
        _ => unsupported("has an exponent that is computed from the image"),
    }
}

/// Of constants only.
pub(crate) fn sqrt(importer: &mut Importer, call: &Call) -> Outcome {
    match call.input(0) {
        Value::Constant(constant) => {
            let constant = constant.clone();
            let roots = importer.floats(&constant)?.into_iter().map(f64::sqrt).collect();
            importer.constant(Constant::from_floats(constant.dims.clone(), roots))
        }
        _ => {
            unsupported("is the root of what is computed from the image, for which there is no approximation")
        }
    }
}

fn affine(importer: &mut Importer, x: usize, scale: Vec<f64>, shift: Vec<f64>) -> Outcome {
    if scale == [1.0] && shift == [0.0] {
        return Ok(vec![Value::Data(x)]);
    }
    Ok(vec![Value::Data(importer.push(Affine { scale, shift }, &[x])?)])
}

fn sum(importer: &mut Importer, a: usize, b: usize) -> Outcome {
    let (first, second) = (importer.shape(a), importer.shape(b));
    if first != second {
        return unsupported(format!("adds {first} and {second}; only values of one shape can be added"));
    }
    Ok(vec![Value::Data(importer.push(Add, &[a, b])?)])
}

fn product(importer: &mut Importer, a: usize, b: usize) -> Outcome {
    let (first, second) = (importer.shape(a), importer.shape(b));
    let per_channel =
        |image: &Shape, factor: &Shape| image.rank() == 3 && *factor.dims() == [image.dims()[0], 1, 1];
    let inputs = if first == second || per_channel(first, second) {
        [a, b]
    } else if per_channel(second, first) {
        [b, a]
    } else {
        return unsupported(format!(
            "multiplies {first} and {second}; only values of one shape, or an image and a factor for each channel, can \
             be multiplied"
        ));
    };
    Ok(vec![Value::Data(importer.push(Mul, &inputs)?)])
}

/// An operation on two constants, with broadcasting. `neutral` on the right leaves the batch as it is.
fn folded(
    importer: &mut Importer,
    a: &Constant,
    b: &Constant,
    int: impl Fn(i64, i64) -> Option<i64>,
    float: impl Fn(f64, f64) -> f64,
    neutral: i64,
) -> Outcome {
    let rank = a.dims.len().max(b.dims.len());
    let dim = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    let mut dims = Vec::with_capacity(rank);
    for i in 0..rank {
        dims.push(match (dim(&a.dims, i), dim(&b.dims, i)) {
            (a, b) if a == b => a,
            (1, other) | (other, 1) => other,
            _ => return invalid(format!("{:?} and {:?} do not fit", a.dims, b.dims)),
        });
    }
    let elements = cnn_graph::shape::elements(&dims);
    let Some(elements) = elements else { return invalid(format!("the shape {dims:?} is not possible")) };
    importer.spend(elements)?;
    let index = |of: &[usize], flat: usize| {
        let (mut index, mut stride, mut rest) = (0, 1, flat);
        for i in (0..rank).rev() {
            let (position, size) = (rest % dims[i], dim(of, i));
            rest /= dims[i];
            index += if size == 1 { 0 } else { position * stride };
            stride *= size;
        }
        index
    };
    let result = if a.is_int() && b.is_int() {
        let (x, y) = (importer.ints(a)?, importer.ints(b)?);
        let combine = |i: usize| match (x[index(&a.dims, i)], y[index(&b.dims, i)]) {
            (Int::Known(x), Int::Known(y)) => match int(x, y) {
                Some(value) => Ok(Int::Known(value)),
                None => invalid(format!("cannot be computed with {x} and {y}")),
            },
            (Int::Batch, Int::Known(y)) if y == neutral => Ok(Int::Batch),
            _ => unsupported("computes with how many images there are"),
        };
        Constant::from_ints(dims.clone(), (0..elements).map(combine).collect::<Outcome<_>>()?)
    } else {
        let (x, y) = (importer.floats(a)?, importer.floats(b)?);
        let combine = |i: usize| float(x[index(&a.dims, i)], y[index(&b.dims, i)]);
        Constant::from_floats(dims.clone(), (0..elements).map(combine).collect())
    };
    importer.constant(result)
}

impl Importer<'_> {
    /// A constant as one number for each channel of a value, or one for all.
    pub(crate) fn per_channel(&mut self, constant: &Constant, x: usize) -> Outcome<Vec<f64>> {
        let shape = self.shape(x).clone();
        let ones = constant.dims.iter().take_while(|dim| **dim == 1).count();
        let dims = &constant.dims[ones..];
        if constant.dims.len() > shape.rank() + 1 {
            return unsupported(format!("has a constant of {:?} for a value of {shape}", constant.dims));
        }
        let fits = match dims {
            [] => true,
            [channels, rest @ ..] => {
                dims.len() == shape.rank()
                    && shape.channels() == Some(*channels)
                    && rest.iter().all(|dim| *dim == 1)
            }
        };
        if !fits {
            return unsupported(format!(
                "has a constant of {:?} for a value of {shape}; only one number for each channel can be read",
                constant.dims
            ));
        }
        let values = self.floats(constant)?;
        match values[..] {
            [first, ref rest @ ..] if rest.iter().all(|value| *value == first) => Ok(vec![first]),
            _ => Ok(values),
        }
    }

    /// A constant as a parameter of `length` numbers, times a factor.
    pub(crate) fn vector(&mut self, constant: &Constant, length: usize, factor: f64) -> Outcome<Values> {
        if constant.elements() == length && constant.is_stored() {
            let tensor = constant.tensor()?;
            return Ok(Values::Stored { tensor, transposed: false, factor });
        }
        let values: Vec<f32> = self.floats(constant)?.into_iter().map(|x| (x * factor) as f32).collect();
        match values[..] {
            _ if values.len() == length => Ok(Values::Computed(values)),
            [value] => {
                self.spend(length)?;
                Ok(Values::Computed(vec![value; length]))
            }
            _ => invalid(format!("{} numbers where {length} are needed", values.len())),
        }
    }
}

pub(crate) fn export_add(exporter: &mut Exporter, place: &Place) {
    exporter.node("Add", place, &[], Vec::new());
}

pub(crate) fn export_mul(exporter: &mut Exporter, place: &Place) {
    exporter.node("Mul", place, &[], Vec::new());
}

/// A product and a sum with constants; one of them is left out if it does nothing.
pub(crate) fn export_affine(exporter: &mut Exporter, op: &Affine, place: &Place) {
    let (scales, shifts) = (op.scale.iter().any(|x| *x != 1.0), op.shift.iter().any(|x| *x != 0.0));
    let dims = |values: &[f64]| match values.len() {
        1 => Vec::new(),
        channels => {
            let mut dims = vec![1; place.input_shape.rank()];
            dims[0] = channels;
            dims
        }
    };
    let mut inputs = place.inputs.clone();
    if scales {
        inputs.push(exporter.floats(place, "scale", dims(&op.scale), &op.scale));
        if shifts {
            inputs = vec![exporter.aside("Mul", place, "scaled", &inputs, Vec::new())];
        } else {
            exporter.node_from("Mul", place, &inputs, Vec::new());
            return;
        }
    }
    inputs.push(exporter.floats(place, "shift", dims(&op.shift), &op.shift));
    exporter.node_from("Add", place, &inputs, Vec::new());
}
