//! Activations as polynomials of slots.
//!
//! A composition takes its input in units of the bound, and its last product with the input gives the activation in these
//! units (arXiv 2105.10879, section III); all other factors are in the coefficients of the last component. A fitted
//! polynomial takes its input mapped from its interval to `[-1, 1]`. Both maps are in the weights of the linear layer
//! before. Outputs are in units such that no slot exceeds 1, so that they can be bootstrapped.

use cnn_graph::Node;
use cnn_graph::policy::{SiteKind, SitePolicy};
use minimax_coeffs::chain::{Chain, clenshaw};
use minimax_coeffs::{ActivationFunction, CompositeSign, EvaluationPlan, PiecewiseLinear};

use crate::error::{Error, Result};
use crate::lower::{Lowering, Value, View};
use crate::stage::{Kind, Range, Stage, StageId};

/// The components of `offset + weight · s(z)`, for `z` in `[-1, 1]`: Chebyshev coefficients, each on `[-1, 1]`.
#[derive(Debug, Clone)]
pub(crate) struct Sign {
    chain: Chain,
}

impl Sign {
    pub fn new(sign: &CompositeSign) -> Self {
        Self { chain: Chain::of_sign(sign, sign.margin()) }
    }

    /// `s(z)`, in float64.
    pub fn eval(&self, z: f64) -> f64 {
        self.chain.eval(z)
    }

    fn components(&self, offset: f64, weight: f64) -> Vec<Vec<f64>> {
        let mut components = self.chain.components.clone();
        if let Some(last) = components.last_mut() {
            last.iter_mut().for_each(|c| *c *= weight);
            last[0] += offset;
        }
        components
    }
}

/// The largest absolute value of a function on `[-1, 1]`, on a grid.
pub(crate) fn largest(f: impl Fn(f64) -> f64) -> f64 {
    const PLACES: i32 = 4096;
    let at = |i: i32| f(f64::from(i) / f64::from(PLACES)).abs();
    (-PLACES..=PLACES).map(at).fold(0.0, f64::max)
}

/// Leaves room for what lies between the places of the grid.
const ROOM: f64 = 1.0 + 1e-6;

impl Lowering<'_> {
    pub(crate) fn one(
        &mut self,
        name: &str,
        kind: Kind,
        inputs: Vec<StageId>,
        ciphertexts: usize,
        bound: f64,
    ) -> StageId {
        self.push(Stage { name: name.to_owned(), kind, inputs, ciphertexts, bound, range: None, group: None })
    }

    /// A polynomial in the Chebyshev basis of `[-1, 1]`.
    pub(crate) fn chebyshev(
        &mut self,
        name: &str,
        coefficients: &[f64],
        x: StageId,
        ciphertexts: usize,
        bound: f64,
    ) -> Result<StageId> {
        let plan = EvaluationPlan::of_polynomial(coefficients)
            .map_err(|source| Error::Polynomial { site: name.to_owned(), source })?;
        Ok(self.one(name, Kind::Polynomial(plan), vec![x], ciphertexts, bound))
    }

    /// Says that stages which follow each other are treated alike.
    pub(crate) fn treat_alike(&mut self, stages: &[StageId]) {
        stages.iter().for_each(|stage| self.stages[*stage].group = stages.first().copied());
    }

    /// `offset + weight · s(x)` of some values, which are treated alike.
    pub(crate) fn signs(
        &mut self,
        name: &str,
        sign: &Sign,
        offset: f64,
        weight: f64,
        inputs: &[StageId],
        ciphertexts: usize,
    ) -> Result<Vec<StageId>> {
        let components = sign.components(offset, weight);
        let last = components.len() - 1;
        let mut values = inputs.to_vec();
        for (i, component) in components.iter().enumerate() {
            let bound = match i == last {
                true => ROOM * largest(|z| offset + weight * sign.eval(z)),
                false => 1.0,
            };
            for value in &mut values {
                *value = self.chebyshev(name, component, *value, ciphertexts, bound)?;
            }
            self.treat_alike(&values);
        }
        Ok(values)
    }

    /// An activation, with its output in units of `prefer` if that can be had for nothing.
    pub(crate) fn activation(
        &mut self,
        node: &Node,
        function: ActivationFunction,
        value: Value,
        prefer: Option<f64>,
    ) -> Result<View> {
        let name = node.name.as_str();
        let policy = self.policy.at(name, SiteKind::Relu).clone();
        let in_range = |center: f64, unit: f64| Range { site: name.to_owned(), center, unit, largest: 1.0 };
        match &policy {
            SitePolicy::Exact => Err(Error::NotPolynomial { site: name.to_owned(), method: policy.method() }),
            SitePolicy::Square => {
                let x = self.in_units(name, value, 0.0, 1.0);
                let (stage, n) = (x.stages[0], x.layout.ciphertexts);
                let bound = self.stages[stage].bound.powi(2);
                let square = self.one(name, Kind::Product, vec![stage, stage], n, bound);
                Ok(x.after(square, 1.0))
            }
            SitePolicy::ReluAq => {
                let x = self.in_units(name, value, 0.0, 1.0);
                let (stage, n) = (x.stages[0], x.layout.ciphertexts);
                let largest = self.stages[stage].bound;
                let bound = largest * largest / 8.0 + largest / 2.0 + 0.25;
                // x²/8 = (T_2(x) + 1) / 16.
                let result = self.chebyshev(name, &[0.25 + 1.0 / 16.0, 0.5, 1.0 / 16.0], stage, n, bound)?;
                Ok(x.after(result, 1.0))
            }
            SitePolicy::Fitted(fitted) => {
                let polynomial = fitted.polynomial();
                let (center, radius) = (polynomial.center(), polynomial.radius());
                let x = self.in_units(name, value, center, radius);
                self.restrict(x.stages[0], in_range(center, radius));
                let unit = prefer.unwrap_or_else(|| fitted.record().bounds.value.max(f64::MIN_POSITIVE));
                let bound = fitted.record().bounds.value / unit;
                let scaled: Vec<f64> = polynomial.coefficients().iter().map(|c| c / unit).collect();
                let result = self.chebyshev(name, &scaled, x.stages[0], x.layout.ciphertexts, bound)?;
                Ok(x.after(result, unit))
            }
            SitePolicy::Minimax { composition, bound } => {
                let smooth = composition.smooth(function, *bound);
                let smooth = smooth.map_err(|source| Error::Smooth { site: name.to_owned(), source })?;
                let x = self.in_units(name, value, 0.0, *bound);
                self.restrict(x.stages[0], in_range(0.0, *bound));
                let ciphertexts = x.layout.ciphertexts;
                match (smooth, function.piecewise()) {
                    (Some(smooth), _) => {
                        let all = ROOM * largest(|z| clenshaw(smooth.coefficients(), z));
                        let unit = prefer.unwrap_or(all);
                        let scaled: Vec<f64> = smooth.coefficients().iter().map(|c| c / unit).collect();
                        let result = self.chebyshev(name, &scaled, x.stages[0], ciphertexts, all / unit)?;
                        Ok(x.after(result, unit))
                    }
                    (None, Some(sum)) => {
                        let sign = Sign::new(composition.sign());
                        self.piecewise(name, &sum.within(*bound), &sign, *bound, &x, prefer)
                    }
                    (None, None) => Err(Error::Unsupported {
                        node: name.to_owned(),
                        op: "activation",
                        reason: format!("{function} is neither smooth nor a sum of ReLUs"),
                    }),
                }
            }
        }
    }

    /// `slope · x + offset + Σ weight · relu(x − at)`, or `x` times that. The input is in units of the bound.
    fn piecewise(
        &mut self,
        name: &str,
        sum: &PiecewiseLinear,
        sign: &Sign,
        bound: f64,
        x: &View,
        prefer: Option<f64>,
    ) -> Result<View> {
        let ciphertexts = x.layout.ciphertexts;
        let relu = |z: f64| z * (1.0 + sign.eval(z)) / 2.0;
        let linear = |x: f64| {
            let kinks = sum.kinks.iter().map(|kink| {
                let radius = bound + kink.at.abs();
                kink.weight * radius * relu((x - kink.at) / radius)
            });
            sum.slope * x + sum.offset + kinks.sum::<f64>()
        };
        let inner = ROOM * largest(|z| linear(bound * z));
        // A product with x, in units of the bound, comes last.
        let unit = match sum.times_x {
            true => inner,
            false => prefer.unwrap_or(inner),
        };
        let z = x.stages[0];
        let mut terms: Vec<(StageId, f64)> = Vec::new();
        let mut slope = sum.slope * bound / unit;
        for kink in &sum.kinks {
            let radius = bound + kink.at.abs();
            let weight = kink.weight * radius / unit;
            let (input, mut offset) = match kink.at == 0.0 {
                true => (z, weight / 2.0),
                false => {
                    let (coefficients, constant) = (vec![bound / radius], -kink.at / radius);
                    let kind = Kind::Combination { coefficients, constant };
                    (self.one(name, kind, vec![z], ciphertexts, 1.0), weight / 2.0)
                }
            };
            if kink.at == 0.0 {
                // The line joins the last component.
                offset += std::mem::take(&mut slope);
            }
            let gate = self.signs(name, sign, offset, weight / 2.0, &[input], ciphertexts)?[0];
            let all = ROOM * largest(|z| z * (offset + weight / 2.0 * sign.eval(z)));
            terms.push((self.one(name, Kind::Product, vec![input, gate], ciphertexts, all), 1.0));
        }
        if slope != 0.0 || terms.is_empty() {
            terms.push((z, slope));
        }
        let constant = sum.offset / unit;
        let mut result = terms[0].0;
        if terms.len() > 1 || constant != 0.0 || terms[0].1 != 1.0 {
            let (inputs, coefficients) = terms.into_iter().unzip();
            let kind = Kind::Combination { coefficients, constant };
            result = self.one(name, kind, inputs, ciphertexts, inner / unit);
        }
        if sum.times_x {
            let product = self.one(name, Kind::Product, vec![z, result], ciphertexts, 1.0);
            return Ok(x.after(product, unit * bound));
        }
        Ok(x.after(result, unit))
    }
}
