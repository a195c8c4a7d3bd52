//! Reading a graph's parameters from weights.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor};
use cnn_graph::{Graph, ParamSpec};

use crate::error::{ModelError, Result};
use crate::weights::{Mismatch, Weights, WeightsError};

/// Reads tensors one at a time and notes what does not fit. One that is missing or of another shape does not stop the
/// reading: all of them are reported in the end.
pub(crate) struct ParamReader<'a> {
    weights: &'a Weights,
    used: BTreeSet<String>,
    mismatch: Mismatch,
}

impl<'a> ParamReader<'a> {
    pub(crate) fn new(weights: &'a Weights) -> Self {
        Self { weights, used: BTreeSet::new(), mismatch: Mismatch::default() }
    }

    /// The device that the weights are for.
    pub(crate) fn device(&self) -> &'a Device {
        self.weights.device()
    }

    /// The tensor; zeros stand for one that does not fit.
    pub(crate) fn tensor(&mut self, spec: &ParamSpec) -> Result<Tensor> {
        self.used.insert(spec.name.clone());
        match self.weights.get(&spec.name, &spec.shape)? {
            Ok(tensor) => return Ok(tensor),
            Err(None) => self.mismatch.missing.push(spec.name.clone()),
            Err(Some(found)) => self.mismatch.misshapen.push((spec.name.clone(), spec.shape.clone(), found)),
        }
        Ok(Tensor::zeros(spec.shape.as_slice(), DType::F32, self.device())?)
    }

    /// Its numbers in row-major order.
    pub(crate) fn values(&mut self, spec: &ParamSpec) -> Result<Vec<f32>> {
        Ok(self.tensor(spec)?.flatten_all()?.to_vec1()?)
    }

    /// Reports what did not fit, and tensors that the graph does not use.
    pub(crate) fn finish(self, graph: &Graph) -> Result<()> {
        let Self { weights, used, mut mismatch } = self;
        let is_counter = |name: &str| name.ends_with(".num_batches_tracked");
        let unused =
            weights.names().filter(|name| !used.contains(*name) && !is_counter(name) && !graph.ignores(name));
        mismatch.unused = unused.map(str::to_owned).collect();
        mismatch.unused.sort();
        if mismatch.is_empty() {
            return Ok(());
        }
        let origin = weights.origin().to_owned();
        Err(match other_classes(graph, &mismatch) {
            Some((found, asked)) => ModelError::Classes { origin, found, asked },
            None => WeightsError::Mismatch { origin, mismatch }.into(),
        })
    }
}

/// The number of classes that weights are for, and that of the graph, if nothing else differs.
fn other_classes(graph: &Graph, mismatch: &Mismatch) -> Option<(usize, usize)> {
    let head = &graph.head()?.name;
    let Mismatch { missing, unused, misshapen } = mismatch;
    match &misshapen[..] {
        [(first, needed, found), (second, _, biases)]
            if missing.is_empty()
                && unused.is_empty()
                && (first, second) == (&format!("{head}.weight"), &format!("{head}.bias"))
                && found.get(1..) == needed.get(1..)
                && found[..1] == biases[..] =>
        {
            Some((found[0], needed[0]))
        }
        _ => None,
    }
}
