//! A record of what was computed, to go back along for the gradients.
//!
//! candle has automatic differentiation of its own, and [`through`] uses it for whatever is not worth an op. For the
//! rest it is too slow: it fills a tensor with zeros and adds to it, on one thread, for each gradient of each op
//! (docs/adr/0011-own-tape.md). Here a layer pushes what it computed and how to go back; a gradient is moved where it is
//! the only one.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use approx_ops::RangePenalty;
use candle_core::{Tensor, TensorId, Var};

use crate::error::Result;

/// What a layer may want to know of the step that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Step {
    pub(crate) dropout_seed: Option<u64>,
    /// Weight of the range penalty of a single value.
    pub(crate) penalty_weight: f32,
}

impl Step {
    /// The penalty at a site with this bound, if there is one.
    pub(crate) fn penalty(self, bound: Option<f32>) -> Option<RangePenalty> {
        let bound = bound.filter(|_| self.penalty_weight > 0.0)?;
        Some(RangePenalty { bound, weight: self.penalty_weight })
    }
}

/// What goes back to a node's inputs, in their order: their gradients, as far as there are any, and the penalty.
pub(crate) struct Back {
    pub(crate) gradients: Vec<Option<Tensor>>,
    pub(crate) penalty: f64,
}

impl From<Vec<Option<Tensor>>> for Back {
    fn from(gradients: Vec<Option<Tensor>>) -> Self {
        Self { gradients, penalty: 0.0 }
    }
}

type Backward = Box<dyn FnOnce(Tensor) -> Result<Back>>;

struct Node {
    output: TensorId,
    inputs: Vec<TensorId>,
    backward: Backward,
}

/// What was computed, in order.
pub(crate) struct Tape {
    step: Step,
    nodes: Vec<Node>,
    /// Parameters, and all that depends on them.
    tracked: HashSet<TensorId>,
}

thread_local! {
    static RECORDING: RefCell<Option<Tape>> = const { RefCell::new(None) };
}

/// Gradients of parameters, and the penalty.
pub(crate) type Gradients = (HashMap<TensorId, Tensor>, f64);

impl Tape {
    /// Runs `f` on this thread and records what depends on `parameters`.
    pub(crate) fn record<T>(
        parameters: impl IntoIterator<Item = TensorId>,
        step: Step,
        f: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Tape)> {
        /// Ends the recording however `f` ends.
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                RECORDING.take();
            }
        }
        RECORDING.set(Some(Tape { step, nodes: Vec::new(), tracked: parameters.into_iter().collect() }));
        let end = End;
        let result = f()?;
        let tape = RECORDING.take().expect("only the end takes it");
        drop(end);
        Ok((result, tape))
    }

    /// Goes back from `output`, whose gradient this is.
    pub(crate) fn backward(self, output: &Tensor, gradient: Tensor) -> Result<Gradients> {
        let mut gradients = HashMap::from([(output.id(), gradient)]);
        let mut total = 0.0;
        for node in self.nodes.into_iter().rev() {
            let Some(gradient) = gradients.remove(&node.output) else { continue };
            let Back { gradients: of_inputs, penalty } = (node.backward)(gradient)?;
            total += penalty;
            for (input, gradient) in node.inputs.into_iter().zip(of_inputs) {
                let Some(gradient) = gradient.filter(|_| self.tracked.contains(&input)) else { continue };
                let sum = match gradients.remove(&input) {
                    None => gradient,
                    Some(other) => cnn_kernels::add(&other, &gradient)?,
                };
                gradients.insert(input, sum);
            }
        }
        Ok((gradients, total))
    }
}

/// The step that is being recorded on this thread, if one is.
pub(crate) fn step() -> Option<Step> {
    RECORDING.with_borrow(|tape| tape.as_ref().map(|tape| tape.step))
}

/// Whether a gradient of `xs` is wanted.
pub(crate) fn is_tracked(xs: &Tensor) -> bool {
    RECORDING.with_borrow(|tape| tape.as_ref().is_some_and(|tape| tape.tracked.contains(&xs.id())))
}

/// Records, if that is being done, that `output` was computed from `inputs`, and how to go back.
pub(crate) fn push<B: Into<Back>>(
    output: &Tensor,
    inputs: &[&Tensor],
    backward: impl FnOnce(Tensor) -> Result<B> + 'static,
) {
    if !inputs.iter().any(|input| is_tracked(input)) {
        return;
    }
    RECORDING.with_borrow_mut(|tape| {
        let tape = tape.as_mut().expect("an input is tracked");
        tape.tracked.insert(output.id());
        tape.nodes.push(Node {
            output: output.id(),
            inputs: inputs.iter().map(|input| input.id()).collect(),
            backward: Box::new(|gradient| Ok(backward(gradient)?.into())),
        });
    });
}

/// Anything that candle can differentiate, such as the sum of two branches: what a network computes between its layers
/// must go through this to be trained. For small tensors, because it copies them while it is.
///
/// ```
/// use approx_models::layers::through;
/// use candle_core::{Device, Tensor};
///
/// let (a, b) = (Tensor::new(&[1f32, 2.0], &Device::Cpu)?, Tensor::new(&[3f32, 4.0], &Device::Cpu)?);
/// let sum = through([&a, &b], |[a, b]| Ok((a + b)?))?;
/// assert_eq!(sum.to_vec1::<f32>()?, [4.0, 6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of `f`.
pub fn through<const N: usize>(
    inputs: [&Tensor; N],
    f: impl FnOnce([&Tensor; N]) -> Result<Tensor>,
) -> Result<Tensor> {
    if !inputs.iter().any(|input| is_tracked(input)) {
        return f(inputs);
    }
    let copies = inputs.iter().map(|input| Var::from_tensor(&input.detach()));
    let copies: Vec<Var> = copies.collect::<candle_core::Result<_>>()?;
    let result = f(std::array::from_fn(|i| copies[i].as_tensor()))?;
    let output = result.detach();
    push(&output, &inputs, move |gradient| {
        let gradients = (result * gradient)?.sum_all()?.backward()?;
        Ok(copies.iter().map(|copy| gradients.get(copy).cloned()).collect::<Vec<_>>())
    });
    Ok(output)
}
