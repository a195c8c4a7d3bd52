//! How a polynomial, or a whole composition, is evaluated on encrypted values: one sequence of steps.
//!
//! Depth and products ([`EvaluationPlan::cost`]), the noise ([`crate::noise`]) and the evaluation itself all follow from
//! the steps, so that they cannot contradict each other. For example, the odd polynomial `T_1/2 − T_3/4 + T_5` has degree
//! 5, and a plan with three products of two ciphertexts at three levels:
//!
//! ```
//! use minimax_coeffs::{EvaluationPlan, plan::Operation};
//!
//! let plan = EvaluationPlan::of_polynomial(&[0.0, 0.5, 0.0, -0.25, 0.0, 1.0])?;
//! assert_eq!((plan.levels(), plan.products()), (3, 3));
//! for (id, step) in plan.iter() {
//!     // The input, T_2 = 2·x·x − 1, linear combinations, and two times a quotient times T_2 and a remainder.
//!     println!("{id} at level {}: {:?}", step.level, step.operation);
//!     // An operand is an earlier step, and is there in time.
//!     for operand in step.operation.operands() {
//!         assert!(operand < id && plan.step(operand).level <= step.level);
//!     }
//! }
//! assert!(matches!(plan.step(plan.output()).operation, Operation::MultiplyAdd { .. }));
//! // T_k(cos t) = cos(k t).
//! let t = 0.3f64;
//! let expected = 0.5 * t.cos() - 0.25 * (3.0 * t).cos() + (5.0 * t).cos();
//! assert!((plan.eval(t.cos()) - expected).abs() < 1e-14);
//! # Ok::<(), minimax_coeffs::plan::PlanError>(())
//! ```
//!
//! # Levels
//! The level of a value is the number of levels consumed so far: the input has level 0, and a fresh ciphertext with `L`
//! rescalings before it has `L − level` left. Every step but the input ends with one rescaling. A step at level `l` takes
//! its factors at level `l − 1`, multiplies, and divides by the modulus that takes a ciphertext from level `l − 1` to `l`.
//! An operand that has consumed fewer levels is brought there by dropping moduli, which costs nothing and changes neither
//! the value nor its scale.
//!
//! # Scales
//! What is added has to agree in scale as well as in level. Nothing is spent on that, because every sum has a part that is
//! multiplied by constants, and these can be encoded at any scale: see [`EvaluationPlan::scales`], which gives every
//! value and every constant its scale for the moduli of an engine.

mod build;
mod scales;

use std::fmt;

use crate::chain::Chain;
use crate::cost::Cost;

pub use scales::{ScaleError, Scales};

/// The place of a step in its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StepId(usize);

impl StepId {
    /// The input's.
    pub const INPUT: StepId = StepId(0);

    /// Its position in [`EvaluationPlan::steps`].
    pub fn index(self) -> usize {
        self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What a step computes.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Operation {
    /// The value that is encrypted, in `[-1, 1]`. Only the first step.
    Input,
    /// `2 · left · right − minus`, or `2 · left · right − 1`: `T_(a+b)` from `T_a`, `T_b` and `T_|a−b|`. One product. The
    /// doubling is an addition.
    Chebyshev {
        /// `T_a`.
        left: StepId,
        /// `T_b`.
        right: StepId,
        /// `T_|a−b|`, where `a` and `b` differ. It is subtracted before the rescaling, at the level of the factors.
        minus: Option<StepId>,
    },
    /// `Σ coefficient · term + constant`: products with plaintext constants, which take a level but no product.
    Combination {
        /// Earlier values, each with its coefficient.
        terms: Vec<(StepId, f64)>,
        /// The summand that belongs to no value.
        constant: f64,
    },
    /// `left · right + plus`, or `left · right`: a part of a polynomial as quotient, giant step and remainder, or the
    /// last product of ReLU. One product.
    MultiplyAdd {
        /// The quotient. It is a [`Combination`](Self::Combination) or a `MultiplyAdd`, and no other step uses it.
        left: StepId,
        /// The giant step, a Chebyshev polynomial of the component's input; in ReLU's last product the input.
        right: StepId,
        /// The remainder, of which the same holds as of the quotient. It is added after the rescaling.
        plus: Option<StepId>,
    },
}

impl Operation {
    /// The steps whose values it takes; one that is squared comes twice.
    pub fn operands(&self) -> impl Iterator<Item = StepId> {
        let (pair, third, terms): (_, _, &[_]) = match self {
            Self::Input => (None, None, &[]),
            Self::Chebyshev { left, right, minus } => (Some([*left, *right]), *minus, &[]),
            Self::MultiplyAdd { left, right, plus } => (Some([*left, *right]), *plus, &[]),
            Self::Combination { terms, .. } => (None, None, terms),
        };
        pair.into_iter().flatten().chain(third).chain(terms.iter().map(|(term, _)| *term))
    }

    /// Whether it multiplies two ciphertexts.
    pub fn is_product(&self) -> bool {
        matches!(self, Self::Chebyshev { .. } | Self::MultiplyAdd { .. })
    }

    /// The same with its operands `offset` places further back, but for the input, whose place `input` takes.
    fn moved(&self, offset: usize, input: StepId) -> Self {
        let to = |id: StepId| if id == StepId::INPUT { input } else { StepId(id.0 + offset) };
        match self {
            Self::Input => Self::Input,
            Self::Chebyshev { left, right, minus } => {
                Self::Chebyshev { left: to(*left), right: to(*right), minus: minus.map(to) }
            }
            Self::Combination { terms, constant } => Self::Combination {
                terms: terms.iter().map(|&(term, c)| (to(term), c)).collect(),
                constant: *constant,
            },
            Self::MultiplyAdd { left, right, plus } => {
                Self::MultiplyAdd { left: to(*left), right: to(*right), plus: plus.map(to) }
            }
        }
    }
}

/// A step of an [`EvaluationPlan`].
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PlanStep {
    /// What is computed.
    pub operation: Operation,
    /// How many levels its value has consumed; 0 for the input.
    pub level: u32,
}

/// Why there is no plan.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No component.
    #[error("a composition needs at least one component")]
    Empty,
    /// Nothing depends on the input.
    #[error("there are {found} coefficients, but a plan needs those of T_0 and T_1 at least")]
    Constant {
        /// How many coefficients there are.
        found: usize,
    },
    /// A coefficient is no number.
    #[error("the coefficient of T_{order} is {value}, but must be finite")]
    NotFinite {
        /// Of the Chebyshev polynomial.
        order: usize,
        /// As given.
        value: f64,
    },
}

/// The steps of an evaluation on a ciphertext, in an order in which they can be computed.
///
/// With the feature `serde` it can be written, but not read: nothing would vouch for the order of the steps.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct EvaluationPlan {
    steps: Vec<PlanStep>,
}

impl EvaluationPlan {
    /// The plan of `Σ coefficients[k] T_k(x)` for `x` in `[-1, 1]`. It has the least depth of a polynomial of its degree
    /// `d`, `⌈log2(d + 1)⌉`, and of the baby-step giant-step plans of that depth one with the fewest products.
    ///
    /// A polynomial with no even coefficient but `T_0`'s is planned as an odd one (E. Lee, J.-W. Lee, J.-S. No and Y.-S.
    /// Kim, "Minimax Approximation of Sign Function by Composite Polynomial for Homomorphic Comparison", ePrint 2020/834),
    /// one with no odd coefficient but `T_1`'s as a polynomial in `T_2`, as `T_2k(x) = T_k(T_2(x))`. Both take fewer
    /// products than others. Within these forms the plan depends on the degree alone: coefficients that are 0 by chance
    /// save nothing.
    ///
    /// # Errors
    /// [`PlanError::Constant`] for fewer than two coefficients, [`PlanError::NotFinite`].
    pub fn of_polynomial(coefficients: &[f64]) -> Result<Self, PlanError> {
        if coefficients.len() < 2 {
            return Err(PlanError::Constant { found: coefficients.len() });
        }
        if let Some(order) = coefficients.iter().position(|c| !c.is_finite()) {
            return Err(PlanError::NotFinite { order, value: coefficients[order] });
        }
        Ok(build::polynomial(coefficients))
    }

    /// The plan of a composition, one component after the other.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn of_sign(chain: &Chain) -> Result<Self, PlanError> {
        let mut plan: Option<Self> = None;
        for component in &chain.components {
            let next = Self::of_polynomial(component)?;
            plan = Some(match plan {
                None => next,
                Some(plan) => plan.then(&next),
            });
        }
        plan.ok_or(PlanError::Empty)
    }

    /// The plan of `x (1 + s(x)) / 2`, ReLU for `x` in `[-1, 1]`. The last component gives `(1 + s) / 2`, so that the
    /// product with `x` is the only step more.
    ///
    /// ```
    /// use minimax_coeffs::{Alpha, CompositeSign, EvaluationPlan, chain::Chain};
    ///
    /// let sign = CompositeSign::published(Alpha::new(10)?);
    /// let plan = EvaluationPlan::of_relu(&Chain::of_sign(sign, sign.margin()))?;
    /// assert_eq!(plan.cost(), sign.relu_cost());
    /// assert!((plan.eval(-0.4) - sign.relu(-0.4, 1.0)).abs() < 1e-9);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn of_relu(chain: &Chain) -> Result<Self, PlanError> {
        let mut chain = chain.clone();
        let last = chain.components.last_mut().ok_or(PlanError::Empty)?;
        last.iter_mut().for_each(|c| *c /= 2.0);
        if let Some(constant) = last.first_mut() {
            *constant += 0.5;
        }
        let mut plan = Self::of_sign(&chain)?;
        plan.push(Operation::MultiplyAdd { left: plan.output(), right: StepId::INPUT, plus: None });
        Ok(plan)
    }

    /// This plan and then `next`, whose input is this one's output.
    #[must_use]
    pub fn then(mut self, next: &Self) -> Self {
        let (offset, input) = (self.steps.len() - 1, self.output());
        for step in &next.steps[1..] {
            self.push(step.operation.moved(offset, input));
        }
        self
    }

    /// The plan that has only an input.
    fn input() -> Self {
        Self { steps: vec![PlanStep { operation: Operation::Input, level: 0 }] }
    }

    /// Adds a step at the first level at which it can be.
    fn push(&mut self, operation: Operation) -> StepId {
        let level = |id: &StepId| self.steps[id.0].level;
        let level = match &operation {
            Operation::Input => 0,
            Operation::Chebyshev { .. } | Operation::Combination { .. } => {
                operation.operands().map(|id| level(&id)).max().map_or(0, |level| level + 1)
            }
            Operation::MultiplyAdd { left, right, plus } => {
                (level(left).max(level(right)) + 1).max(plus.as_ref().map_or(0, level))
            }
        };
        self.steps.push(PlanStep { operation, level });
        self.output()
    }

    /// All steps, the input first and the output last.
    pub fn steps(&self) -> &[PlanStep] {
        &self.steps
    }

    /// All steps with their places.
    pub fn iter(&self) -> impl Iterator<Item = (StepId, &PlanStep)> {
        self.steps.iter().enumerate().map(|(index, step)| (StepId(index), step))
    }

    /// A step.
    ///
    /// # Panics
    /// If `id` is of a longer plan.
    pub fn step(&self, id: StepId) -> &PlanStep {
        &self.steps[id.0]
    }

    /// The place of the last step, whose value is the result.
    pub fn output(&self) -> StepId {
        StepId(self.steps.len() - 1)
    }

    /// The levels that the result has consumed: the multiplicative depth.
    pub fn levels(&self) -> u32 {
        self.steps[self.output().0].level
    }

    /// Products of two ciphertexts.
    pub fn products(&self) -> u32 {
        self.steps.iter().filter(|step| step.operation.is_product()).count() as u32
    }

    /// Rescalings: one a step but for the input.
    pub fn rescalings(&self) -> u32 {
        self.steps.len() as u32 - 1
    }

    /// Depth and products.
    pub fn cost(&self) -> Cost {
        Cost { depth: self.levels(), non_scalar_multiplications: self.products() }
    }

    /// The result for the input `x`, in float64.
    pub fn eval(&self, x: f64) -> f64 {
        self.values(x, |_| 0.0)[self.output().0]
    }

    /// The values of all steps in their order, in float64. `error` tells by how much the rescaling of a step is off.
    pub fn values(&self, x: f64, mut error: impl FnMut(StepId) -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = Vec::with_capacity(self.steps.len());
        let at = |values: &[f64], id: &StepId| values[id.0];
        for (id, step) in self.iter() {
            let value = match &step.operation {
                Operation::Input => {
                    values.push(x);
                    continue;
                }
                Operation::Chebyshev { left, right, minus } => {
                    let minus = minus.as_ref().map_or(1.0, |minus| at(&values, minus));
                    2.0 * at(&values, left) * at(&values, right) - minus
                }
                Operation::Combination { terms, constant } => {
                    constant + terms.iter().map(|(term, c)| c * at(&values, term)).sum::<f64>()
                }
                Operation::MultiplyAdd { left, right, plus } => {
                    let plus = plus.as_ref().map_or(0.0, |plus| at(&values, plus));
                    at(&values, left) * at(&values, right) + plus
                }
            };
            values.push(value + error(id));
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::clenshaw;
    use crate::{Alpha, CompositeSign};

    /// Numbers in `[-1, 1)`, of the orders that `is_there` says; others are 0.
    pub(super) fn coefficients(degree: usize, is_there: impl Fn(usize) -> bool) -> Vec<f64> {
        let mut state = degree as u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        (0..=degree).map(|k| if is_there(k) { random() } else { 0.0 }).collect()
    }

    /// Of each degree up to 127 a general polynomial, and an odd or even one, with and without a constant or a line.
    fn polynomials() -> Vec<Vec<f64>> {
        let of_degree = |degree: usize| {
            let same = move |k: usize| k % 2 == degree % 2;
            [
                coefficients(degree, |_| true),
                coefficients(degree, same),
                coefficients(degree, move |k| same(k) || k <= 1),
            ]
        };
        (1..=127).flat_map(of_degree).collect()
    }

    #[test]
    fn a_plan_computes_the_polynomial_at_the_least_depth() {
        for c in polynomials() {
            let degree = c.len() - 1;
            let plan = EvaluationPlan::of_polynomial(&c).unwrap();
            assert_eq!(plan.levels(), (degree + 1).next_power_of_two().ilog2(), "degree {degree}");
            // Coefficients double in the quotient each time that a polynomial is split.
            let tolerance = 1e-15 * (degree * degree) as f64 + 1e-14;
            for i in -20..=20 {
                let x = f64::from(i) / 20.0;
                let (found, expected) = (plan.eval(x), clenshaw(&c, x));
                assert!((found - expected).abs() < tolerance, "degree {degree} at {x}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn every_step_is_used_and_finds_its_operands() {
        for c in polynomials() {
            let plan = EvaluationPlan::of_polynomial(&c).unwrap();
            let mut uses = vec![0; plan.steps().len()];
            for (id, step) in plan.iter() {
                assert_eq!(step.operation == Operation::Input, id == StepId::INPUT);
                for operand in step.operation.operands() {
                    assert!(operand < id);
                    uses[operand.index()] += 1;
                }
            }
            for step in plan.steps() {
                match &step.operation {
                    Operation::MultiplyAdd { left, right, plus } => {
                        let parts = [Some(*left), *plus];
                        for part in parts.into_iter().flatten() {
                            assert_eq!(uses[part.index()], 1, "a quotient or remainder has one use");
                            assert!(plan.step(part).level <= step.level - u32::from(part == *left));
                            let operation = &plan.step(part).operation;
                            assert!(!matches!(operation, Operation::Input | Operation::Chebyshev { .. }));
                        }
                        assert!(matches!(plan.step(*right).operation, Operation::Chebyshev { .. }));
                    }
                    Operation::Combination { terms, .. } => assert!(!terms.is_empty()),
                    Operation::Chebyshev { minus: Some(minus), .. } => {
                        assert!(plan.step(*minus).level < step.level, "subtracted before the rescaling");
                    }
                    Operation::Input | Operation::Chebyshev { minus: None, .. } => {}
                }
            }
            uses.pop();
            assert!(uses.iter().all(|uses| *uses > 0), "degree {}: {uses:?}", c.len() - 1);
        }
    }

    fn cost(degree: usize, is_there: impl Fn(usize) -> bool) -> (u32, u32) {
        let cost = EvaluationPlan::of_polynomial(&coefficients(degree, is_there)).unwrap().cost();
        (cost.depth, cost.non_scalar_multiplications)
    }

    #[test]
    fn products_of_small_degrees_are_those_that_can_be_counted_by_hand() {
        let general = |degree| cost(degree, |_| true);
        // 2: T_2. 3: T_2, and (c x + d) T_2. 4: T_2, and (a T_2 + b x + c) T_2.
        assert_eq!([1, 2, 3, 4].map(general), [(1, 0), (2, 1), (2, 2), (3, 2)]);
        // T_2 and T_4 for (…) T_4 + …, where both parts have degree 3. The first may take two levels, so it is split; the
        // other one takes T_3 or a split, as T_3 is there at level 2 and its coefficient takes the third.
        assert_eq!(general(7), (3, 5));
        // In T_2: degrees 1, 2 and 3.
        assert_eq!([2, 4, 6].map(|degree| cost(degree, |k| k % 2 == 0)), [(2, 1), (3, 2), (3, 3)]);
        // A line or a constant beside it costs nothing.
        assert_eq!(cost(6, |k| k % 2 == 0 || k == 1), (3, 3));
        assert_eq!(cost(5, |k| k % 2 == 1), (3, 3));
        assert_eq!(cost(5, |k| k % 2 == 1 || k == 0), (3, 3));
    }

    #[test]
    fn general_polynomials_take_about_as_many_products_as_they_must() {
        // About √degree products are needed at any depth (Paterson and Stockmeyer, SIAM J. Comput. 2, 1973), and twice
        // that many and some are enough.
        for degree in 2..=127u32 {
            let (_, products) = cost(degree as usize, |_| true);
            let root = f64::from(degree).sqrt();
            assert!(f64::from(products) >= root - 1.0, "{degree}: {products}");
            assert!(f64::from(products) < 2.0 * root + 7.0, "{degree}: {products}");
        }
    }

    #[test]
    fn a_composition_takes_what_its_components_take() {
        for alpha in Alpha::all() {
            let sign = CompositeSign::published(alpha);
            let chain = Chain::of_sign(sign, sign.margin());
            let (plan, relu) = (EvaluationPlan::of_sign(&chain), EvaluationPlan::of_relu(&chain));
            let (plan, relu) = (plan.unwrap(), relu.unwrap());
            assert_eq!(plan.cost(), sign.cost(), "alpha {alpha}");
            assert_eq!(relu.cost(), sign.relu_cost(), "alpha {alpha}");
            assert_eq!(relu.rescalings(), plan.rescalings() + 1);
            for i in -500..=500 {
                let x = f64::from(i) / 500.0;
                // What float64 loses of the second component of alpha 14.
                assert!((plan.eval(x) - sign.eval(x)).abs() < 2e-6, "alpha {alpha} at {x}");
                assert!((relu.eval(x) - sign.relu(x, 1.0)).abs() < 1e-6, "alpha {alpha} at {x}");
            }
        }
    }

    #[test]
    fn what_has_no_plan_is_refused() {
        assert_eq!(EvaluationPlan::of_polynomial(&[]), Err(PlanError::Constant { found: 0 }));
        assert_eq!(EvaluationPlan::of_polynomial(&[1.0]), Err(PlanError::Constant { found: 1 }));
        let infinite = EvaluationPlan::of_polynomial(&[1.0, 2.0, f64::INFINITY]);
        assert_eq!(infinite, Err(PlanError::NotFinite { order: 2, value: f64::INFINITY }));
        let empty = Chain { components: vec![], radii: vec![] };
        assert_eq!(EvaluationPlan::of_sign(&empty), Err(PlanError::Empty));
        assert_eq!(EvaluationPlan::of_relu(&empty), Err(PlanError::Empty));
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_plan_is_written_as_its_steps() {
        let plan = EvaluationPlan::of_polynomial(&[0.5, 2.0]).unwrap();
        let expected = serde_json::json!({"steps": [
            {"operation": "input", "level": 0},
            {"operation": {"combination": {"terms": [[0, 2.0]], "constant": 0.5}}, "level": 1},
        ]});
        assert_eq!(serde_json::to_value(&plan).unwrap(), expected);
    }
}
