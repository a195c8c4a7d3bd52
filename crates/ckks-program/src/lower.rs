//! From a graph to stages.
//!
//! A value of the graph is a [`View`]: numbers that lie in the ciphertexts of some stages, with a factor and a summand for
//! each channel. So batch norm, slices, new channels of zeros, concatenations and reshapes are no operations at all. Or it
//! is a [`Sum`] of linear maps of views, which becomes a stage only when it is known in which units and in which layout
//! it is wanted.

use std::sync::Arc;

use cnn_graph::ops::{Op, Padding, Pool};
use cnn_graph::policy::ActivationPolicy;
use cnn_graph::{Graph, Node, ParamSpec, Shape, ValueId};

use crate::error::{Error, Result};
use crate::layout::{Layout, Packing};
use crate::linear::{Linear, Source};
use crate::map::Map;
use crate::plan::Recorded;
use crate::split::RotationCost;
use crate::stage::{Kind, Range, Stage, StageId};

/// Numbers that lie somewhere.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Their ciphertexts are those of these stages, one after the other.
    pub stages: Vec<StageId>,
    pub layout: Layout,
    /// For each channel: a number is `scale` times what lies in the slot, and `shift`.
    pub scale: Vec<f64>,
    pub shift: Vec<f64>,
}

impl View {
    fn of(stage: StageId, layout: Layout, unit: f64, center: f64) -> Self {
        let channels = layout.shape[0];
        Self { stages: vec![stage], layout, scale: vec![unit; channels], shift: vec![center; channels] }
    }

    /// The view of what a stage makes of all slots of this view's, in other units.
    pub fn after(&self, stage: StageId, unit: f64) -> Self {
        Self::of(stage, self.layout.clone(), unit, 0.0)
    }

    /// Whether it is the value of one stage, with all numbers in these units.
    pub fn is_in(&self, center: f64, unit: f64) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-14 * unit;
        self.stages.len() == 1
            && self.scale.iter().all(|scale| near(*scale, unit))
            && self.shift.iter().all(|shift| near(*shift, center))
    }

    /// Whether no channel goes over the end of a ciphertext.
    pub fn has_whole_channels(&self, positions: usize) -> bool {
        let [channels, height, width] = self.layout.shape;
        (0..channels).all(|c| {
            let ends =
                [(0, 0), (height - 1, width - 1)].map(|(y, x)| self.layout.place([c, y, x], positions));
            ends[0].map(|place| place.0) == ends[1].map(|place| place.0)
        })
    }
}

/// A linear map of a view.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    pub view: View,
    pub map: Map,
    /// For each channel of the output.
    pub factor: Vec<f64>,
    pub name: String,
}

/// A sum of linear maps and a constant for each channel.
#[derive(Debug, Clone)]
pub(crate) struct Sum {
    pub shape: [usize; 3],
    pub terms: Vec<Term>,
    pub bias: Vec<f64>,
}

impl Sum {
    pub fn of(name: &str, view: View, map: Map, shape: [usize; 3]) -> Self {
        let term = Term { view, map, factor: vec![1.0; shape[0]], name: name.to_owned() };
        Self { shape, terms: vec![term], bias: vec![0.0; shape[0]] }
    }

    fn identity(name: &str, view: View) -> Self {
        let shape = view.layout.shape;
        Self::of(name, view, Map::Identity, shape)
    }
}

/// What a node of the graph has become.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    View(View),
    Sum(Sum),
}

impl Value {
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::View(view) => view.layout.shape,
            Self::Sum(sum) => sum.shape,
        }
    }
}

/// In which units a sum is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Units {
    /// A slot holds `(x − center) / unit`.
    Of { center: f64, unit: f64 },
    /// As it is.
    Plain,
    /// Such that no slot exceeds 1.
    Bounded,
}

/// What a layout is chosen by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weights {
    pub rotations: RotationCost,
    /// Of a plaintext product.
    pub product: f64,
}

/// What becomes of a graph.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub stages: Vec<Stage>,
    pub output: View,
}

pub(crate) struct Lowering<'a> {
    graph: &'a Graph,
    pub policy: &'a ActivationPolicy,
    read: &'a mut dyn FnMut(&ParamSpec) -> Vec<f32>,
    pub packing: Packing,
    weights: Weights,
    recorded: &'a Recorded,
    pub stages: Vec<Stage>,
    values: Vec<Option<Value>>,
    uses: Vec<usize>,
}

/// A value's dimensions as an image; what is none is a row of features.
fn dims(shape: &Shape) -> [usize; 3] {
    shape.image().unwrap_or([shape.elements(), 1, 1])
}

/// Lowers a network. `progress` is called with each node's place and the number of all.
pub(crate) fn lower(
    graph: &Graph,
    read: &mut dyn FnMut(&ParamSpec) -> Vec<f32>,
    policy: &ActivationPolicy,
    packing: Packing,
    weights: Weights,
    recorded: &Recorded,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Lowered> {
    let uses = graph.uses();
    let values = vec![None; graph.nodes().len()];
    let mut lowering =
        Lowering { graph, policy, read, packing, weights, recorded, stages: Vec::new(), values, uses };
    for (value, node) in graph.values() {
        progress(value.index(), graph.nodes().len());
        let mut lowered = lowering.node(value, node)?;
        if lowering.uses[value.index()] > 1
            && let Value::Sum(sum) = lowered
        {
            lowered = Value::View(lowering.bounded(&node.name, sum));
        }
        lowering.values[value.index()] = Some(lowered);
    }
    let output = match lowering.take(graph.output()) {
        Value::View(view) => view,
        Value::Sum(sum) => lowering.stage_of(&graph.node(graph.output()).name, sum, Units::Plain, None),
    };
    Ok(Lowered { stages: lowering.stages, output })
}

impl Lowering<'_> {
    pub fn push(&mut self, stage: Stage) -> StageId {
        self.stages.push(stage);
        self.stages.len() - 1
    }

    /// The value of a node, for one of those that take it.
    fn take(&mut self, value: ValueId) -> Value {
        let left = &mut self.uses[value.index()];
        *left -= 1;
        let slot = &mut self.values[value.index()];
        let value = if *left == 0 { slot.take() } else { slot.clone() };
        value.expect("a graph is in topological order")
    }

    fn view(&mut self, node: &Node, input: usize) -> View {
        match self.take(node.inputs[input]) {
            Value::View(view) => view,
            Value::Sum(sum) => {
                let name = self.graph.node(node.inputs[input]).name.clone();
                self.bounded(&name, sum)
            }
        }
    }

    pub fn sum(&mut self, node: &Node, input: usize) -> Sum {
        match self.take(node.inputs[input]) {
            Value::View(view) => Sum::identity(&format!("{}.input", node.name), view),
            Value::Sum(sum) => sum,
        }
    }

    fn params(&mut self, node: &Node) -> Result<Vec<Arc<[f32]>>> {
        let mut params = Vec::new();
        for spec in self.graph.params_of(node) {
            let values = (self.read)(&spec);
            if values.len() != spec.shape.iter().product::<usize>() {
                return Err(Error::Weights { name: spec.name, shape: spec.shape, found: values.len() });
            }
            params.push(values.into());
        }
        Ok(params)
    }

    fn node(&mut self, value: ValueId, node: &Node) -> Result<Value> {
        let shape = dims(&node.shape);
        let name = node.name.as_str();
        let unsupported =
            |reason: String| Error::Unsupported { node: node.name.clone(), op: node.op.name(), reason };
        Ok(match &node.op {
            Op::Input(_) => {
                let positions = self.packing.positions();
                let layout = Layout::multiplexed(shape, shape[2], [1, 1], positions);
                let kind = Kind::Input { layout: layout.clone() };
                let bound = self.recorded.get(name).unwrap_or(f64::INFINITY);
                let ciphertexts = layout.ciphertexts;
                let stage = Stage {
                    name: name.to_owned(),
                    kind,
                    inputs: Vec::new(),
                    ciphertexts,
                    bound,
                    range: None,
                    group: None,
                };
                Value::View(View::of(self.push(stage), layout, 1.0, 0.0))
            }
            Op::Conv(op) => {
                let params = self.params(node)?;
                let map = Map::Conv { op: *op, weight: params[0].clone() };
                let mut sum = Sum::of(name, self.view(node, 0), map, shape);
                if let Some(bias) = params.get(1) {
                    sum.bias = bias.iter().map(|b| f64::from(*b)).collect();
                }
                Value::Sum(sum)
            }
            Op::Linear(_) => {
                let params = self.params(node)?;
                let map = Map::Dense { weight: params[0].clone() };
                let mut sum = Sum::of(name, self.view(node, 0), map, shape);
                if let Some(bias) = params.get(1) {
                    sum.bias = bias.iter().map(|b| f64::from(*b)).collect();
                }
                Value::Sum(sum)
            }
            Op::AvgPool(op) => Value::Sum(Sum::of(name, self.view(node, 0), Map::AvgPool(*op), shape)),
            Op::GlobalAvgPool(_) | Op::AdaptiveAvgPool(_) => {
                let view = self.view(node, 0);
                if view.layout.shape == shape {
                    Value::View(view)
                } else if shape[1..] == [1, 1] && view.has_whole_channels(self.packing.positions()) {
                    Value::View(self.means(name, view))
                } else {
                    Value::Sum(Sum::of(name, view, Map::AdaptiveAvgPool, shape))
                }
            }
            Op::BatchNorm(op) => {
                let params = self.params(node)?;
                let norm = cnn_graph::passes::fold::NormParams {
                    weight: &params[0],
                    bias: &params[1],
                    mean: &params[2],
                    variance: &params[3],
                    eps: op.eps,
                };
                let (factors, summands) = norm.as_affine();
                self.affine(node, &factors, &summands)
            }
            Op::Affine(op) => self.affine(node, &op.scale, &op.shift),
            Op::Dropout(_) => self.take(node.inputs[0]),
            Op::Add(_) => {
                let (mut a, b) = (self.sum(node, 0), self.sum(node, 1));
                a.terms.extend(b.terms);
                a.bias.iter_mut().zip(b.bias).for_each(|(a, b)| *a += b);
                Value::Sum(a)
            }
            Op::Mul(_) => Value::View(self.product(node)),
            Op::Flatten(_) | Op::Reshape(_) => {
                let view = self.view(node, 0);
                self.reshaped(name, &view, shape)
            }
            Op::Transpose(op) => {
                let view = flattened(&self.view(node, 0));
                let from = self.graph.node(node.inputs[0]).shape.dims();
                let strides: Vec<usize> = (1..=from.len()).map(|d| from[d..].iter().product()).collect();
                let strides: Vec<usize> = op.order.iter().map(|&dim| strides[dim]).collect();
                let index = |i: usize| {
                    let (mut rest, mut index) = (i, 0);
                    for (size, stride) in node.shape.dims().iter().zip(&strides).rev() {
                        index += rest % size * stride;
                        rest /= size;
                    }
                    index
                };
                let view = picked(&view, (0..node.shape.elements()).map(index));
                self.reshaped(name, &view, shape)
            }
            Op::Slice(op) => {
                let view = self.view(node, 0);
                let from = self.graph.node(node.inputs[0]).shape.dims();
                if from.len() == 3 {
                    Value::View(sliced(&view, op.axis, op.start, op.step, shape[op.axis]))
                } else {
                    let inner: usize = from[op.axis + 1..].iter().product();
                    let count = node.shape.dims()[op.axis];
                    let index = |i: usize| {
                        let (outer, k, rest) = (i / inner / count, i / inner % count, i % inner);
                        (outer * from[op.axis] + op.start + k * op.step) * inner + rest
                    };
                    Value::View(picked(&view, (0..node.shape.elements()).map(index)))
                }
            }
            Op::Pad(op) => {
                let mut view = self.view(node, 0);
                let zeros = match op.zeros[..] {
                    [channels] => [channels, [0, 0], [0, 0]],
                    [channels, rows, columns] => [channels, rows, columns],
                    _ => return Err(unsupported(format!("pads {} dimensions", op.zeros.len()))),
                };
                let [before, after] = zeros[0];
                for (list, zero) in [(&mut view.scale, 1.0), (&mut view.shift, 0.0)] {
                    list.splice(0..0, std::iter::repeat_n(zero, before));
                    list.extend(std::iter::repeat_n(zero, after));
                }
                view.layout.bases.splice(0..0, std::iter::repeat_n(None, before));
                view.layout.bases.extend(std::iter::repeat_n(None, after));
                view.layout.shape[0] += before + after;
                let [[top, bottom], [left, right]] = [zeros[1], zeros[2]];
                if [top, bottom, left, right] == [0; 4] {
                    Value::View(view)
                } else {
                    let window = Pool { padding: Padding { top, bottom, left, right }, ..Pool::square(1, 1) };
                    Value::Sum(Sum::of(name, view, Map::Tap { window, index: 0 }, shape))
                }
            }
            Op::Concat(op) => {
                if op.axis != 0 || !matches!(node.shape.rank(), 1 | 3) {
                    return Err(unsupported(format!("joins dimension {} of {}", op.axis, node.shape)));
                }
                let parts = (0..node.inputs.len()).map(|i| self.view(node, i)).collect();
                Value::View(self.joined(name, parts))
            }
            Op::Activation(function) => {
                let sum = self.take(node.inputs[0]);
                let prefer = self.preferred_unit(value);
                Value::View(self.activation(node, *function, sum, prefer)?)
            }
            Op::MaxPool(pool) => {
                let view = self.take(node.inputs[0]);
                if pool.0.signs() == (0, 0) {
                    let view = match view {
                        Value::View(view) => view,
                        Value::Sum(sum) => self.bounded(&format!("{name}.input"), sum),
                    };
                    Value::Sum(Sum::of(name, view, Map::Tap { window: pool.0, index: 0 }, shape))
                } else {
                    Value::View(self.max_pool(node, &pool.0, view)?)
                }
            }
        })
    }

    /// The nodes that take a value.
    fn users(&self, value: ValueId) -> impl Iterator<Item = &Node> {
        self.graph.nodes().iter().filter(move |node| node.inputs.contains(&value))
    }

    /// The units that suit the only node that takes a value.
    fn preferred_unit(&self, value: ValueId) -> Option<f64> {
        if self.uses[value.index()] != 1 {
            return None;
        }
        let user = self.users(value).next()?;
        match &user.op {
            Op::MaxPool(pool) if pool.0.signs() != (0, 0) => {
                let shape = self.graph.node(value).shape.image()?;
                crate::max_pool::is_inside(&pool.0, shape, user.shape.image()?)
                    .then(|| crate::max_pool::unit(self.policy, user, &pool.0))?
            }
            _ => None,
        }
    }

    fn affine(&mut self, node: &Node, scale: &[f64], shift: &[f64]) -> Value {
        let channels = node.shape.channels().unwrap_or(1);
        let repeat = dims(&node.shape)[0] / channels.max(1);
        let of = |constants: &[f64], c: usize| {
            if constants.len() == 1 { constants[0] } else { constants[c / repeat] }
        };
        match self.take(node.inputs[0]) {
            Value::View(mut view) => {
                for c in 0..view.scale.len() {
                    view.scale[c] *= of(scale, c);
                    view.shift[c] = view.shift[c] * of(scale, c) + of(shift, c);
                }
                Value::View(view)
            }
            Value::Sum(mut sum) => {
                for c in 0..sum.bias.len() {
                    sum.bias[c] = sum.bias[c] * of(scale, c) + of(shift, c);
                    sum.terms.iter_mut().for_each(|term| term.factor[c] *= of(scale, c));
                }
                Value::Sum(sum)
            }
        }
    }

    /// The means of whole channels, at the places of their first pixels: sums, whose number of pixels is a matter of units.
    fn means(&mut self, name: &str, view: View) -> View {
        let [_, height, width] = view.layout.shape;
        let layout = &view.layout;
        let kind =
            Kind::Sums { distances: [layout.row_stride, layout.column_stride], counts: [height, width] };
        let mut stages = view.stages.clone();
        for stage in &mut stages {
            let Stage { ciphertexts, bound, .. } = self.stages[*stage];
            let bound = bound * (height * width) as f64;
            let (name, kind) = (name.to_owned(), kind.clone());
            *stage = self.push(Stage {
                name,
                kind,
                inputs: vec![*stage],
                ciphertexts,
                bound,
                range: None,
                group: None,
            });
        }
        let mut layout = view.layout;
        layout.shape = [layout.shape[0], 1, 1];
        let scale = view.scale.iter().map(|scale| scale / (height * width) as f64).collect();
        View { stages, layout, scale, shift: view.shift }
    }

    fn reshaped(&mut self, name: &str, view: &View, shape: [usize; 3]) -> Value {
        if view.layout.shape == shape {
            return Value::View(view.clone());
        }
        let flat = flattened(view);
        let pixels = shape[1] * shape[2];
        if pixels == 1 {
            return Value::View(flat);
        }
        let uniform =
            |list: &[f64]| list.chunks(pixels).all(|channel| channel.iter().all(|x| *x == channel[0]));
        match flat.layout.as_image(shape) {
            Some(layout) if uniform(&flat.scale) && uniform(&flat.shift) => {
                let every = |list: &[f64]| list.iter().step_by(pixels).copied().collect();
                let (scale, shift) = (every(&flat.scale), every(&flat.shift));
                Value::View(View { stages: flat.stages, layout, scale, shift })
            }
            _ => Value::Sum(Sum::of(name, flat, Map::Unflatten, shape)),
        }
    }

    /// Channels of several views, one after the other.
    fn joined(&mut self, name: &str, parts: Vec<View>) -> View {
        let positions = self.packing.positions();
        let first = parts[0].layout.clone();
        let mut joined: Option<View> = None;
        for mut part in parts {
            let layout = &part.layout;
            if (layout.row_stride, layout.column_stride) != (first.row_stride, first.column_stride)
                && layout.shape[1..] != [1, 1]
            {
                let layout = Layout::multiplexed(layout.shape, first.pitch, first.gap(), positions);
                let sum = Sum::identity(name, part);
                part = self.stage_of(name, sum, Units::Bounded, Some(&layout));
            }
            joined = Some(match joined {
                None => part,
                Some(mut all) => {
                    let offset = all.layout.ciphertexts * positions;
                    all.layout.bases.extend(part.layout.bases.iter().map(|base| base.map(|b| b + offset)));
                    all.layout.shape[0] += part.layout.shape[0];
                    all.layout.ciphertexts += part.layout.ciphertexts;
                    // Rotations of one ciphertext must be right for each.
                    all.layout.period = all.layout.period.max(part.layout.period);
                    all.stages.extend(part.stages);
                    all.scale.extend(part.scale);
                    all.shift.extend(part.shift);
                    all
                }
            });
        }
        joined.expect("a concatenation has parts")
    }

    /// A product of two values, the second of the same shape or with one number for each channel.
    fn product(&mut self, node: &Node) -> View {
        let name = node.name.as_str();
        let mut a = self.view(node, 0);
        if a.stages.len() > 1 || a.shift.iter().any(|shift| *shift != 0.0) {
            a = self.bounded(&format!("{name}.input"), Sum::identity(name, a));
        }
        let mut b = self.view(node, 1);
        let fits = b.layout.agrees(&a.layout) && b.stages.len() == 1 && b.shift.iter().all(|s| *s == 0.0);
        if !fits {
            let map = if b.layout.shape == a.layout.shape { Map::Identity } else { Map::Spread };
            let sum = Sum::of(name, b, map, a.layout.shape);
            b = self.stage_of(&format!("{name}.factor"), sum, Units::Bounded, Some(&a.layout));
        }
        let inputs = vec![a.stages[0], b.stages[0]];
        let bound = inputs.iter().map(|&input| self.stages[input].bound).product();
        let ciphertexts = a.layout.ciphertexts;
        let kind = Kind::Product;
        let stage = self.push(Stage {
            name: name.to_owned(),
            kind,
            inputs,
            ciphertexts,
            bound,
            range: None,
            group: None,
        });
        let scale = a.scale.iter().zip(&b.scale).map(|(a, b)| a * b).collect();
        View { stages: vec![stage], scale, ..a }
    }

    /// A view of the value, in units such that no slot exceeds 1.
    pub fn bounded(&mut self, name: &str, sum: Sum) -> View {
        self.stage_of(name, sum, Units::Bounded, None)
    }

    /// The value in these units, as the value of one stage.
    pub fn in_units(&mut self, name: &str, value: Value, center: f64, unit: f64) -> View {
        let sum = match value {
            Value::View(view) if view.is_in(center, unit) => return view,
            Value::View(view) => Sum::identity(&format!("{name}.input"), view),
            Value::Sum(sum) => sum,
        };
        self.stage_of(name, sum, Units::Of { center, unit }, None)
    }

    /// Makes a stage of a sum, in these units and in this layout or the cheapest one.
    pub fn stage_of(&mut self, name: &str, sum: Sum, units: Units, layout: Option<&Layout>) -> View {
        let candidates = match layout {
            Some(layout) => vec![layout.clone()],
            None => self.candidates(&sum),
        };
        let label = sum.terms.iter().find(|term| !matches!(term.map, Map::Identity));
        let label = label.map_or_else(|| name.to_owned(), |term| term.name.clone());
        let (center, unit) = match units {
            Units::Of { center, unit } => (center, unit),
            Units::Plain | Units::Bounded => (0.0, 1.0),
        };
        let mut inputs: Vec<StageId> = Vec::new();
        let mut ciphertexts = 0;
        let mut sources: Vec<Source> = Vec::new();
        // A value that is in several terms is rotated once.
        let mut known: Vec<(Vec<StageId>, usize, usize)> = Vec::new();
        for term in sum.terms {
            let View { stages, layout, scale, shift } = term.view;
            let same = known.iter().find(|(others, period, _)| *others == stages && *period == layout.period);
            let first = same.map_or(ciphertexts, |(_, _, first)| *first);
            if same.is_none() {
                known.push((stages.clone(), layout.period, first));
                ciphertexts += stages.iter().map(|&s| self.stages[s].ciphertexts).sum::<usize>();
                inputs.extend(stages);
            }
            let factor = term.factor.iter().map(|factor| factor / unit).collect();
            sources.push(Source { first, layout, map: term.map, scale, shift, factor });
        }
        let bias: Vec<f64> = sum.bias.iter().map(|bias| (bias - center) / unit).collect();
        let mut best: Option<(usize, f64, Linear)> = None;
        for candidate in candidates {
            let linear =
                Linear::new(self.packing, sources.clone(), candidate, bias.clone(), self.weights.rotations);
            let products = linear.diagonals_count() as f64 * self.weights.product;
            let cost = linear.cost(self.weights.rotations) + products;
            let ciphertexts = linear.output().ciphertexts;
            if best.as_ref().is_none_or(|(n, least, _)| (ciphertexts, cost) < (*n, *least)) {
                best = Some((ciphertexts, cost, linear));
            }
        }
        let (ciphertexts, _, mut linear) = best.expect("there is a layout");
        let bounds: Vec<f64> = inputs
            .iter()
            .flat_map(|&stage| std::iter::repeat_n(self.stages[stage].bound, self.stages[stage].ciphertexts))
            .collect();
        let recorded = self.recorded.get(name);
        let (unit, bound) = match units {
            Units::Of { .. } => (unit, 1.0),
            Units::Plain => (1.0, recorded.unwrap_or_else(|| linear.bound(&bounds))),
            Units::Bounded => match recorded.unwrap_or_else(|| linear.bound(&bounds)) {
                bound if bound.is_finite() && bound > 0.0 => {
                    linear.divide_by(bound);
                    (bound, 1.0)
                }
                bound => (1.0, bound),
            },
        };
        let range = recorded.filter(|_| !matches!(units, Units::Of { .. })).map(|recorded| Range {
            site: name.to_owned(),
            center: 0.0,
            unit,
            largest: recorded / unit,
        });
        let layout = linear.output().clone();
        let kind = Kind::Linear(Box::new(linear));
        let stage = self.push(Stage { name: label, kind, inputs, ciphertexts, bound, range, group: None });
        View::of(stage, layout, unit, center)
    }

    /// Layouts that a sum may have.
    fn candidates(&self, sum: &Sum) -> Vec<Layout> {
        let positions = self.packing.positions();
        let main = sum.terms.iter().find(|term| !matches!(term.map, Map::Identity)).unwrap_or(&sum.terms[0]);
        let from = &main.view.layout;
        let [rows, columns] = main.map.stride(from.shape, sum.shape);
        let mut candidates = Vec::new();
        if sum.shape[1..] == [1, 1] && from.shape[1..] == [1, 1] {
            candidates.push(Layout::features(sum.shape[0], positions));
        } else {
            let [gap_rows, gap_columns] = from.gap();
            let gap = [gap_rows * rows, gap_columns * columns];
            let (pitch, gap) = match from.shape[1..] {
                [1, 1] => (sum.shape[2], [1, 1]),
                _ => (from.pitch, gap),
            };
            candidates.push(Layout::multiplexed(sum.shape, pitch, gap, positions));
        }
        let like = sum.terms.iter().filter(|term| term.view.layout.shape == sum.shape);
        let clean = |term: &Term| term.view.stages.len() == 1;
        candidates.extend(like.filter(|term| clean(term)).filter_map(|term| term.view.layout.completed()));
        candidates.dedup();
        candidates
    }

    /// Says what a policy allows in the slots of a stage.
    pub fn restrict(&mut self, stage: StageId, range: Range) {
        self.stages[stage].range.get_or_insert(range);
    }
}

fn flattened(view: &View) -> View {
    let [_, height, width] = view.layout.shape;
    let spread = |list: &[f64]| list.iter().flat_map(|x| std::iter::repeat_n(*x, height * width)).collect();
    View {
        stages: view.stages.clone(),
        layout: view.layout.flattened(),
        scale: spread(&view.scale),
        shift: spread(&view.shift),
    }
}

/// Some of the features of a view.
fn picked(view: &View, indices: impl Iterator<Item = usize>) -> View {
    let indices: Vec<usize> = indices.collect();
    let mut layout = view.layout.clone();
    layout.bases = indices.iter().map(|&i| view.layout.bases[i]).collect();
    layout.shape = [indices.len(), 1, 1];
    let pick = |list: &[f64]| indices.iter().map(|&i| list[i]).collect();
    View { stages: view.stages.clone(), layout, scale: pick(&view.scale), shift: pick(&view.shift) }
}

fn sliced(view: &View, axis: usize, start: usize, step: usize, count: usize) -> View {
    let layout = view.layout.sliced(axis, start, step, count);
    let pick = |list: &[f64]| match axis {
        0 => list.iter().skip(start).step_by(step).take(count).copied().collect(),
        _ => list.to_vec(),
    };
    View { stages: view.stages.clone(), layout, scale: pick(&view.scale), shift: pick(&view.shift) }
}
