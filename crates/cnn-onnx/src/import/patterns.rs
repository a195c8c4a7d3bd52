//! Activations that exporters write as several nodes: SiLU, GELU in both forms, hard-swish and hard-sigmoid by ReLU6.
//!
//! What a node computes is written as `p(x) + (k₀ + k₁ x) · f(a(x))` with polynomials `p` and `a` of degree at most 3, one
//! function `f` and constants, whatever the order of additions and multiplications. If that is an activation's definition
//! for some value `x` before it, the node becomes the activation of `x`.

use cnn_graph::ops::{Activation, Op};

use crate::import::draft::{DraftOp, Drafts};

/// The most steps of one attempt.
const EFFORT: usize = 64;

/// How much two constants may differ, since files have them rounded to float32.
const TOLERANCE: f64 = 2e-6;

/// Coefficients of 1, x, x², x³.
type Polynomial = [f64; 4];

/// The function in a [`Form`].
#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    Erf,
    Tanh,
    Sigmoid,
    /// `clip(scale · x + offset, low, high)`.
    Clip {
        scale: f64,
        offset: f64,
        low: f64,
        high: f64,
    },
}

/// `polynomial(x) + (factor[0] + factor[1] x) · function(argument(x))`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Form {
    polynomial: Polynomial,
    function: Option<(Function, Polynomial)>,
    factor: [f64; 2],
}

/// Makes one node of each such pattern.
pub(super) fn join(drafts: &mut Drafts) {
    for index in 1..drafts.nodes.len() {
        if matches!(drafts.nodes[index].op, DraftOp::Graph(Op::Mul(_) | Op::Affine(_)))
            && let Some((base, activation)) = activation(drafts, index)
        {
            let draft = &mut drafts.nodes[index];
            draft.op = DraftOp::Graph(Op::Activation(activation));
            draft.inputs = vec![base];
            draft.main = true;
        }
    }
}

/// The activation that a node is, and of which value.
fn activation(drafts: &Drafts, index: usize) -> Option<(usize, Activation)> {
    let mut before: Vec<usize> = vec![index];
    let mut at = 0;
    let mut has_function = false;
    while at < before.len() && before.len() < EFFORT {
        let draft = &drafts.nodes[before[at]];
        let inside = match &draft.op {
            DraftOp::Erf => true,
            DraftOp::Graph(Op::Activation(activation)) => function(*activation).is_some(),
            DraftOp::Graph(Op::Mul(_) | Op::Add(_) | Op::Affine(_)) => false,
            _ => {
                at += 1;
                continue;
            }
        };
        has_function |= inside;
        for input in &draft.inputs {
            if !before.contains(input) {
                before.push(*input);
            }
        }
        at += 1;
    }
    if !has_function {
        return None;
    }
    before.into_iter().skip(1).find_map(|base| {
        let same_shape = drafts.nodes[base].shape == drafts.nodes[index].shape;
        let mut effort = EFFORT;
        let form = same_shape.then(|| form(drafts, index, base, &mut effort)).flatten()?;
        Some((base, recognise(&form)?))
    })
}

/// The function that an activation in a pattern is.
fn function(activation: Activation) -> Option<Function> {
    Some(match activation {
        Activation::Tanh => Function::Tanh,
        Activation::Sigmoid => Function::Sigmoid,
        Activation::Clip { low, high } => Function::Clip { scale: 1.0, offset: 0.0, low, high },
        Activation::HardSigmoid { scale, offset } => Function::Clip { scale, offset, low: 0.0, high: 1.0 },
        _ => return None,
    })
}

/// A node as a function of another one's value.
fn form(drafts: &Drafts, index: usize, base: usize, effort: &mut usize) -> Option<Form> {
    if index == base {
        return Some(Form { polynomial: [0.0, 1.0, 0.0, 0.0], function: None, factor: [0.0; 2] });
    }
    *effort = effort.checked_sub(1)?;
    // A node before the base cannot depend on it.
    if index < base {
        return None;
    }
    let draft = &drafts.nodes[index];
    let mut input = |i: usize| form(drafts, draft.inputs[i], base, effort);
    let of = |function: Function, inner: Form| {
        let argument = inner.polynomial;
        inner.function.is_none().then_some(Form {
            polynomial: [0.0; 4],
            function: Some((function, argument)),
            factor: [1.0, 0.0],
        })
    };
    match &draft.op {
        DraftOp::Erf => of(Function::Erf, input(0)?),
        DraftOp::Graph(Op::Activation(activation)) => of(function(*activation)?, input(0)?),
        DraftOp::Graph(Op::Affine(affine)) => {
            let ([scale], [shift]) = (&affine.scale[..], &affine.shift[..]) else { return None };
            let inner = input(0)?;
            let mut polynomial = inner.polynomial.map(|c| c * scale);
            polynomial[0] += shift;
            Some(Form { polynomial, factor: inner.factor.map(|c| c * scale), ..inner })
        }
        DraftOp::Graph(Op::Add(_)) => {
            let (a, b) = (input(0)?, input(1)?);
            if a.function.is_some() && b.function.is_some() && a.function != b.function {
                return None;
            }
            Some(Form {
                polynomial: std::array::from_fn(|i| a.polynomial[i] + b.polynomial[i]),
                function: a.function.or(b.function),
                factor: std::array::from_fn(|i| a.factor[i] + b.factor[i]),
            })
        }
        DraftOp::Graph(Op::Mul(_)) => {
            let (a, b) = (input(0)?, input(1)?);
            let (plain, other) = if a.function.is_none() { (a, b) } else { (b, a) };
            if plain.function.is_some() {
                return None;
            }
            Some(Form {
                polynomial: product(&plain.polynomial, &other.polynomial)?,
                function: other.function,
                factor: product(&plain.polynomial, &other.factor)?,
            })
        }
        _ => None,
    }
}

/// A product of polynomials, if its degree is below `N`.
fn product<const N: usize>(a: &Polynomial, b: &[f64; N]) -> Option<[f64; N]> {
    let mut result = [0.0; N];
    for (i, a) in a.iter().enumerate().filter(|(_, a)| **a != 0.0) {
        for (j, b) in b.iter().enumerate().filter(|(_, b)| **b != 0.0) {
            *result.get_mut(i + j)? += a * b;
        }
    }
    Some(result)
}

/// The activation whose definition this is.
fn recognise(form: &Form) -> Option<Activation> {
    let near = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * b.abs().max(1e-3);
    let all = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| near(*a, *b));
    let (function, argument) = form.function?;
    let (polynomial, factor) = (&form.polynomial, &form.factor);
    let half_x = all(polynomial, &[0.0, 0.5, 0.0, 0.0]) && all(factor, &[0.0, 0.5]);
    let plain = all(polynomial, &[0.0; 4]);
    let root = (2.0 / std::f64::consts::PI).sqrt();
    match function {
        Function::Erf if half_x && all(&argument, &[0.0, std::f64::consts::FRAC_1_SQRT_2, 0.0, 0.0]) => {
            Some(Activation::Gelu)
        }
        Function::Tanh if half_x && all(&argument, &[0.0, root, 0.0, 0.044715 * root]) => {
            Some(Activation::GeluTanh)
        }
        Function::Sigmoid if plain && all(factor, &[0.0, 1.0]) && all(&argument, &[0.0, 1.0, 0.0, 0.0]) => {
            Some(Activation::Silu)
        }
        Function::Clip { scale, offset, low: 0.0, high } if plain && argument[2..] == [0.0; 2] => {
            // factor · clip(slope x + start, 0, high), with factor · high = 1.
            let (start, slope) = (scale * argument[0] + offset, scale * argument[1]);
            let [constant, linear] = *factor;
            if constant == 0.0
                && near(linear * high, 1.0)
                && all(&[linear * slope, linear * start], &[1.0 / 6.0, 0.5])
            {
                Some(Activation::HardSwish)
            } else if linear == 0.0 && near(constant * high, 1.0) {
                Some(Activation::HardSigmoid { scale: constant * slope, offset: constant * start })
            } else {
                None
            }
        }
        _ => None,
    }
}
