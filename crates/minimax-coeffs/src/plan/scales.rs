//! The scales of a plan's values and constants.

use super::{EvaluationPlan, Operation, StepId};

/// The scales of a plan for the moduli of an engine: [`EvaluationPlan::scales`].
#[derive(Debug, Clone, PartialEq)]
pub struct Scales {
    of_step: Vec<f64>,
    /// Of each step, the modulus that its rescaling divides by; 1 for the input.
    moduli: Vec<f64>,
}

/// Why there are no scales.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ScaleError {
    /// Fewer moduli than levels.
    #[error("the plan consumes {levels} levels, but there are {moduli} moduli to rescale by")]
    TooFewModuli {
        /// The levels of the plan.
        levels: u32,
        /// How many moduli were given.
        moduli: usize,
    },
    /// A scale or modulus that is none.
    #[error("{value:e} is no scale and no modulus: these are finite and above 0")]
    NotPositive {
        /// As given.
        value: f64,
    },
}

impl EvaluationPlan {
    /// Gives each value a scale, such that whatever is added agrees exactly, and the output has the scale `output`.
    ///
    /// `input` is the scale of the input, and `moduli[l]` what a rescaling divides by that takes a ciphertext from `l`
    /// consumed levels to `l + 1`: in the residue number system a prime near the scale, but not equal to it. Where all
    /// moduli and `output` are equal to `input`, so are all scales.
    ///
    /// How they come about: a product has the product of the scales of its factors, divided by the modulus. A linear
    /// combination can have any scale, as its constants are encoded at [`Scales::constant`]. So one that ends a component
    /// gets the scale `input`, those in a quotient get the one that makes the product with the giant step what is wanted,
    /// and those in a remainder that of the product. `T_|a−b|`, which is subtracted from a product before it is
    /// rescaled, is multiplied by the constant 1 at [`Scales::constant`].
    ///
    /// ```
    /// use minimax_coeffs::{EvaluationPlan, plan::StepId};
    ///
    /// let plan = EvaluationPlan::of_polynomial(&[0.25, 0.5, 0.125])?;
    /// let (scale, moduli) = (2f64.powi(40), [2f64.powi(40) + 32_769.0, 2f64.powi(40) - 98_303.0]);
    /// let scales = plan.scales(scale, scale, &moduli)?;
    /// // T_2 = 2·x·x − 1 is not quite at the scale of the input, but x/2 + T_2/8 is.
    /// assert_eq!(scales.of(StepId::INPUT), scale);
    /// assert!(plan.iter().any(|(id, _)| scales.of(id) == scale * scale / moduli[0]));
    /// assert_eq!(scales.of(plan.output()), scale);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ScaleError`].
    pub fn scales(&self, input: f64, output: f64, moduli: &[f64]) -> Result<Scales, ScaleError> {
        if moduli.len() < self.levels() as usize {
            return Err(ScaleError::TooFewModuli { levels: self.levels(), moduli: moduli.len() });
        }
        let given = [input, output].into_iter().chain(moduli.iter().copied());
        if let Some(value) = given.into_iter().find(|x| !(x.is_finite() && *x > 0.0)) {
            return Err(ScaleError::NotPositive { value });
        }
        let divisor = |level: u32| level.checked_sub(1).map_or(1.0, |below| moduli[below as usize]);
        let moduli: Vec<f64> = self.steps().iter().map(|step| divisor(step.level)).collect();
        // Forwards, the powers. What can have any scale has the input's, as the ends of components keep.
        let mut of_step = vec![input; self.steps().len()];
        for (id, step) in self.iter() {
            if let Operation::Chebyshev { left, right, .. } = step.operation {
                of_step[id.index()] = of_step[left.index()] * of_step[right.index()] / moduli[id.index()];
            }
        }
        // Backwards, what the parts of each component have to have.
        let last = self.output().index();
        if !matches!(self.steps()[last].operation, Operation::Input | Operation::Chebyshev { .. }) {
            of_step[last] = output;
        }
        for (id, step) in self.iter().collect::<Vec<_>>().into_iter().rev() {
            if let Operation::MultiplyAdd { left, right, plus } = step.operation {
                let own = of_step[id.index()];
                of_step[left.index()] = own * moduli[id.index()] / of_step[right.index()];
                if let Some(plus) = plus {
                    of_step[plus.index()] = own;
                }
            }
        }
        Ok(Scales { of_step, moduli })
    }
}

impl Scales {
    /// The scale of a step's value, after its rescaling. A constant that is added to it has the same.
    ///
    /// # Panics
    /// If `id` is of a longer plan.
    pub fn of(&self, id: StepId) -> f64 {
        self.of_step[id.index()]
    }

    /// The scale of a constant that multiplies `operand` in the step `id`: that of a coefficient in a linear combination,
    /// and of the 1 before the `minus` of a [`Operation::Chebyshev`].
    ///
    /// # Panics
    /// If one of them is of a longer plan.
    pub fn constant(&self, id: StepId, operand: StepId) -> f64 {
        self.of(id) * self.moduli[id.index()] / self.of(operand)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::coefficients;
    use super::*;
    use crate::chain::Chain;
    use crate::{Alpha, CompositeSign};

    /// Evaluates as an engine does: on messages times their scale, with constants times theirs, in which no scale is ever
    /// adapted. Only what is divided at the end shows whether all sums did agree.
    fn eval_encoded(plan: &EvaluationPlan, scales: &Scales, moduli: &[f64], x: f64) -> f64 {
        let mut values: Vec<f64> = Vec::new();
        for (id, step) in plan.iter() {
            let at = |id: &StepId| values[id.index()];
            let times = |operand: &StepId, c: f64| at(operand) * (c * scales.constant(id, *operand));
            let modulus = || moduli[step.level as usize - 1];
            values.push(match &step.operation {
                Operation::Input => x * scales.of(id),
                Operation::Chebyshev { left, right, minus } => {
                    let minus = match minus {
                        Some(minus) => times(minus, 1.0),
                        None => scales.of(*left) * scales.of(*right),
                    };
                    (2.0 * at(left) * at(right) - minus) / modulus()
                }
                Operation::Combination { terms, constant } => {
                    let sum: f64 = terms.iter().map(|(term, c)| times(term, *c)).sum();
                    sum / modulus() + constant * scales.of(id)
                }
                Operation::MultiplyAdd { left, right, plus } => {
                    at(left) * at(right) / modulus() + plus.as_ref().map_or(0.0, at)
                }
            });
        }
        values[values.len() - 1] / scales.of(plan.output())
    }

    /// Moduli that are off by up to a thousandth, far more than primes have to be.
    fn moduli(scale: f64, levels: u32) -> Vec<f64> {
        (0..levels).map(|l| scale * (1.0 + 1e-3 * f64::from(l * 37 % 19) / 9.0 - 1e-3)).collect()
    }

    #[test]
    fn what_is_added_has_the_same_scale() {
        let scale = 45f64.exp2();
        let polynomials = (1..=64).flat_map(|degree| {
            let odd = coefficients(degree, |k| k % 2 == 1);
            [odd, coefficients(degree, |k| k % 2 == 0 || k == 1), coefficients(degree, |_| true)]
        });
        let mut plans: Vec<_> = polynomials.filter_map(|c| EvaluationPlan::of_polynomial(&c).ok()).collect();
        for alpha in Alpha::all() {
            let chain = Chain::of_sign(CompositeSign::published(alpha), 0.0);
            plans.push(EvaluationPlan::of_relu(&chain).unwrap());
        }
        for plan in &plans {
            let moduli = moduli(scale, plan.levels());
            let scales = plan.scales(scale, 1.01 * scale, &moduli).unwrap();
            assert_eq!(scales.of(StepId::INPUT), scale);
            assert_eq!(scales.of(plan.output()), 1.01 * scale);
            for x in [-1.0, -0.83, 0.0, 0.01, 0.5, 0.97] {
                let (found, expected) = (eval_encoded(plan, &scales, &moduli, x), plan.eval(x));
                // Float64's rounding, which the steep polynomials of alpha 14 amplify; scales that are off by a
                // thousandth would show as 1e-3.
                assert!((found - expected).abs() < 1e-9, "{:?} at {x}: {found}, {expected}", plan.cost());
            }
            for (id, step) in plan.iter() {
                // T_32 has the 32nd power of a thousandth.
                assert!((scales.of(id) / scale - 1.0).abs() < 0.2, "{id}: {}", scales.of(id) / scale);
                if let Operation::Combination { terms, .. } = &step.operation {
                    for (term, _) in terms {
                        assert!((scales.constant(id, *term) / scale - 1.0).abs() < 0.2);
                    }
                }
            }
        }
    }

    #[test]
    fn moduli_equal_to_the_scale_leave_one_scale() {
        let chain = Chain::of_sign(CompositeSign::published(Alpha::MAX), 0.0);
        let plan = EvaluationPlan::of_relu(&chain).unwrap();
        let scale = 40f64.exp2();
        let scales = plan.scales(scale, scale, &vec![scale; plan.levels() as usize]).unwrap();
        for (id, step) in plan.iter() {
            assert_eq!(scales.of(id), scale);
            if step.level > 0 {
                step.operation.operands().for_each(|operand| assert_eq!(scales.constant(id, operand), scale));
            }
        }
    }

    #[test]
    fn moduli_that_do_not_do_are_refused() {
        let plan = EvaluationPlan::of_polynomial(&[0.0, 1.0, 0.0, 1.0]).unwrap();
        let too_few = plan.scales(1e12, 1e12, &[1e12]);
        assert_eq!(too_few, Err(ScaleError::TooFewModuli { levels: 2, moduli: 1 }));
        let zero = plan.scales(1e12, 1e12, &[1e12, 0.0]);
        assert_eq!(zero, Err(ScaleError::NotPositive { value: 0.0 }));
        assert!(matches!(plan.scales(f64::NAN, 1e12, &[1e12, 1e12]), Err(ScaleError::NotPositive { .. })));
        assert!(plan.scales(1e12, 1e12, &[1e12, 1e12, 1e12]).is_ok());
    }
}
