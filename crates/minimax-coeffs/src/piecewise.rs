//! Piecewise linear functions by exact identities through ReLU.
//!
//! ReLU6 is `max(x, 0) − max(x − 6, 0)`, and any continuous piecewise linear function is a line and a sum of such terms.
//! So whatever approximates ReLU approximates all of them.

use crate::composite::CompositeSign;
use crate::cost::Cost;

/// `f(x) = slope · x + offset + Σ weight · max(x − at, 0)`, or `x` times that.
#[derive(Debug, Clone, PartialEq)]
pub struct PiecewiseLinear {
    /// The slope of the line.
    pub slope: f64,
    /// The line's value at 0.
    pub offset: f64,
    /// Where the slope changes, ascending, and by how much.
    pub kinks: Vec<Kink>,
    /// Whether all of it is multiplied by `x`, as in hard-swish.
    pub times_x: bool,
}

/// A term `weight · max(x − at, 0)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kink {
    /// By how much the slope changes.
    pub weight: f64,
    /// Where it changes.
    pub at: f64,
}

impl PiecewiseLinear {
    /// `x` for `x > 0`, else `slope · x`: ReLU for 0.
    pub fn leaky_relu(slope: f64) -> Self {
        let kinks = vec![Kink { weight: 1.0 - slope, at: 0.0 }];
        Self { slope, offset: 0.0, kinks, times_x: false }
    }

    /// `min(max(x, low), high)`; either end may be infinite.
    ///
    /// # Panics
    /// Unless `low < high`.
    pub fn clip(low: f64, high: f64) -> Self {
        assert!(low < high, "nothing is between {low} and {high}");
        let (slope, offset) = if low.is_finite() { (0.0, low) } else { (1.0, 0.0) };
        let kinks = [Kink { weight: 1.0, at: low }, Kink { weight: -1.0, at: high }];
        let kinks = kinks.into_iter().filter(|kink| kink.at.is_finite()).collect();
        Self { slope, offset, kinks, times_x: false }
    }

    /// `min(max(scale · x + offset, 0), 1)`.
    ///
    /// # Panics
    /// Unless `scale` is positive.
    pub fn hard_sigmoid(scale: f64, offset: f64) -> Self {
        assert!(scale > 0.0, "the scale is {scale}");
        let kinks = vec![
            Kink { weight: scale, at: -offset / scale },
            Kink { weight: -scale, at: (1.0 - offset) / scale },
        ];
        Self { slope: 0.0, offset: 0.0, kinks, times_x: false }
    }

    /// `x · min(max(x/6 + 1/2, 0), 1)`.
    pub fn hard_swish() -> Self {
        let kinks = vec![Kink { weight: 1.0 / 6.0, at: -3.0 }, Kink { weight: -1.0 / 6.0, at: 3.0 }];
        Self { slope: 0.0, offset: 0.0, kinks, times_x: true }
    }

    /// The same function on `[-bound, bound]`, where kinks outside are none: their terms are a part of the line there,
    /// or zero.
    #[must_use]
    pub fn within(&self, bound: f64) -> Self {
        let mut result = Self { kinks: Vec::new(), ..self.clone() };
        for &kink in &self.kinks {
            if kink.at <= -bound {
                result.slope += kink.weight;
                result.offset -= kink.weight * kink.at;
            } else if kink.at < bound {
                result.kinks.push(kink);
            }
        }
        result
    }

    /// The exact value at `x`.
    pub fn eval(&self, x: f64) -> f64 {
        self.eval_by(x, |_, x| x.max(0.0))
    }

    /// The value at `x`, `|x| ≤ bound`, with every `max(x − t, 0)` replaced by
    /// [`CompositeSign::relu`] on `[-(bound + |t|), bound + |t|]`, if `t` is inside of `[-bound, bound]`.
    pub fn approximate(&self, sign: &CompositeSign, bound: f64, x: f64) -> f64 {
        self.within(bound).eval_by(x, |kink, x| sign.relu(x, bound + kink.at.abs()))
    }

    /// The derivative of [`PiecewiseLinear::approximate`] in `x`.
    pub fn approximate_derivative(&self, sign: &CompositeSign, bound: f64, x: f64) -> f64 {
        let inside = self.within(bound);
        let slopes = inside
            .kinks
            .iter()
            .map(|kink| kink.weight * sign.relu_derivative(x - kink.at, bound + kink.at.abs()));
        let slope = inside.slope + slopes.sum::<f64>();
        if !self.times_x {
            return slope;
        }
        let linear = Self { times_x: false, ..inside };
        x * slope + linear.eval_by(x, |kink, x| sign.relu(x, bound + kink.at.abs()))
    }

    fn eval_by(&self, x: f64, relu: impl Fn(&Kink, f64) -> f64) -> f64 {
        let terms = self.kinks.iter().map(|kink| kink.weight * relu(kink, x - kink.at));
        let sum = self.slope * x + self.offset + terms.sum::<f64>();
        if self.times_x { x * sum } else { sum }
    }

    /// An upper bound of the error of [`PiecewiseLinear::approximate`] on `[-bound, bound]`, where ReLU on `[-1, 1]` is
    /// off by at most `relu_error`: of a generated table the certificate's, of a published one about `2^-alpha`.
    pub fn error_bound(&self, relu_error: f64, bound: f64) -> f64 {
        let inside = self.within(bound);
        let sum: f64 =
            inside.kinks.iter().map(|kink| kink.weight.abs() * (bound + kink.at.abs()) * relu_error).sum();
        if self.times_x { bound * sum } else { sum }
    }

    /// The cost of one evaluation on `[-bound, bound]`: a ReLU for every kink inside, at the same levels, and a
    /// multiplication more where all is multiplied by `x`. A line alone costs the level of its slope.
    pub fn cost(&self, sign: &CompositeSign, bound: f64) -> Cost {
        let inside = self.within(bound);
        let kinks = inside.kinks.len() as u32;
        let one = sign.relu_cost();
        let sum = Cost {
            depth: if kinks > 0 { one.depth } else { u32::from(inside.slope != 0.0 && inside.slope != 1.0) },
            non_scalar_multiplications: kinks * one.non_scalar_multiplications,
        };
        if self.times_x { sum + Cost::ONE_MULTIPLICATION } else { sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActivationFunction as F, Alpha};

    fn functions() -> Vec<F> {
        vec![
            F::Relu,
            F::LeakyRelu { slope: 0.1 },
            F::LeakyRelu { slope: -0.5 },
            F::Clip { low: 0.0, high: 6.0 },
            F::Clip { low: -1.0, high: 1.0 },
            F::Clip { low: 0.5, high: f64::INFINITY },
            F::Clip { low: f64::NEG_INFINITY, high: 2.0 },
            F::HardSigmoid { scale: 0.2, offset: 0.5 },
            F::HardSigmoid { scale: 1.0 / 6.0, offset: 0.5 },
            F::HardSwish,
        ]
    }

    #[test]
    fn sums_of_relus_are_the_functions() {
        for f in functions() {
            let sum = f.piecewise().unwrap();
            for x in (-1000..=1000).map(|i| f64::from(i) / 100.0) {
                for bound in [10.0, 20.0] {
                    let (value, expected) = (sum.within(bound).eval(x), f.eval(x));
                    assert!((value - expected).abs() < 1e-13, "{f:?} at {x}: {value}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn kinks_outside_of_the_bound_cost_nothing_and_change_nothing() {
        let relu6 = F::Clip { low: 0.0, high: 6.0 }.piecewise().unwrap();
        let sign = CompositeSign::published(Alpha::MAX);
        assert_eq!(relu6.within(5.0).kinks.len(), 1);
        assert_eq!(relu6.cost(sign, 5.0), sign.relu_cost());
        assert_eq!(
            relu6.cost(sign, 7.0).non_scalar_multiplications,
            2 * sign.relu_cost().non_scalar_multiplications
        );
        let line = F::HardSigmoid { scale: 0.2, offset: 0.5 }.piecewise().unwrap().within(2.0);
        assert!(
            line.kinks.is_empty() && (line.slope - 0.2).abs() < 1e-15 && (line.offset - 0.5).abs() < 1e-15
        );
    }

    #[test]
    fn approximations_stay_within_their_error_bound() {
        let alpha = Alpha::MAX;
        let sign = CompositeSign::published(alpha);
        for f in functions() {
            let sum = f.piecewise().unwrap();
            for bound in [2.5, 8.0, 40.0] {
                let limit = sum.error_bound(alpha.epsilon(), bound);
                for x in (-5000..=5000).map(|i| bound * f64::from(i) / 5000.0) {
                    let error = (sum.approximate(sign, bound, x) - f.eval(x)).abs();
                    assert!(error <= limit + 1e-12, "{f:?} on {bound}, at {x}: {error}, allowed {limit}");
                }
            }
        }
    }

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let sign = CompositeSign::published(Alpha::new(7).unwrap());
        let h = 1e-6;
        for f in functions() {
            let sum = f.piecewise().unwrap();
            for x in (-70..70).map(|i| f64::from(i) / 10.0 + 0.0437) {
                let numeric = (f.eval(x + h) - f.eval(x - h)) / (2.0 * h);
                assert!((numeric - f.derivative(x)).abs() < 1e-6, "{f:?} at {x}");
                let approximate = |x| sum.approximate(sign, 8.0, x);
                let numeric = (approximate(x + h) - approximate(x - h)) / (2.0 * h);
                let derivative = sum.approximate_derivative(sign, 8.0, x);
                assert!((numeric - derivative).abs() < 1e-5 * (1.0 + numeric.abs()), "{f:?} at {x}");
            }
        }
    }

    #[test]
    fn senseless_parameters_give_nothing() {
        for f in [
            F::LeakyRelu { slope: f64::NAN },
            F::Clip { low: 1.0, high: 1.0 },
            F::Clip { low: f64::NAN, high: 1.0 },
            F::HardSigmoid { scale: 0.0, offset: 0.5 },
            F::HardSigmoid { scale: 1.0, offset: f64::INFINITY },
            F::Sigmoid,
        ] {
            assert_eq!(f.piecewise(), None, "{f:?}");
        }
    }
}
