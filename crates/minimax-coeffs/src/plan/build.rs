//! The baby-step giant-step plan of a polynomial.
//!
//! *Baby steps* are the `T_k` below some power of two, *giant steps* are `T_2, T_4, T_8, …`. A polynomial is split at a
//! giant step, `p = q · T_g + r`, and so are its parts, until they are linear combinations of baby steps. `q` has to be
//! ready a level earlier than `p`, which is what decides where to split: `T_k` is there at level `⌈log2 k⌉`, and its
//! coefficient takes one level more.
//!
//! How far baby and giant steps should go is tried out, and the plan with the fewest products taken.

use super::{EvaluationPlan, Operation, StepId};

/// Which coefficients there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Those of odd order, and a constant.
    Odd,
    /// All.
    General,
}

/// The plan of `Σ coefficients[k] T_k`, at least two.
pub(super) fn polynomial(coefficients: &[f64]) -> EvaluationPlan {
    let none = |parity: usize| move |(k, c): (usize, &f64)| k % 2 != parity || k < 2 || *c == 0.0;
    let has_none = |parity| coefficients.iter().enumerate().all(none(parity));
    if has_none(0) {
        let degree = (coefficients.len() - 2) / 2 * 2 + 1;
        return fewest_products(EvaluationPlan::input(), &coefficients[..=degree], Form::Odd, None);
    }
    if has_none(1) {
        // T_2k(x) = T_k(T_2(x)). The line is no polynomial in T_2.
        let mut plan = EvaluationPlan::input();
        plan.push(Operation::Chebyshev { left: StepId::INPUT, right: StepId::INPUT, minus: None });
        let line = (coefficients[1] != 0.0).then_some((StepId::INPUT, coefficients[1]));
        let halved: Vec<f64> = coefficients.iter().step_by(2).copied().collect();
        return fewest_products(plan, &halved, Form::General, line);
    }
    fewest_products(EvaluationPlan::input(), coefficients, Form::General, None)
}

/// The polynomial in the last value of `plan`, and `line` added to it.
fn fewest_products(
    plan: EvaluationPlan,
    coefficients: &[f64],
    form: Form,
    line: Option<(StepId, f64)>,
) -> EvaluationPlan {
    let degree = coefficients.len() - 1;
    let depth = (degree + 1).next_power_of_two().ilog2();
    let ways = (1..=depth).flat_map(|babies| (1..=depth).map(move |giants| (babies, giants)));
    let splits = ways.filter_map(|(babies, giants)| Splits::new(form, degree, depth, babies, giants));
    let plans = splits.map(|splits| {
        let mut powers = vec![None; (degree + 1).next_power_of_two()];
        powers[1] = Some(plan.output());
        let mut builder = Builder { plan: plan.clone(), form, powers, splits };
        builder.part(coefficients, depth, line.into_iter().collect());
        builder.plan
    });
    plans.min_by_key(|plan| (plan.products(), plan.rescalings())).expect("all splits by two is a plan")
}

/// What becomes of a part of some degree that has to be ready at some level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Split {
    /// It is a linear combination of baby steps.
    Nowhere,
    /// It is split at this giant step.
    At(usize),
}

/// Where polynomials are split if the baby steps are `T_k` for `k` below `2^babies` and the giant steps are `T_2, …,
/// T_(2^(giants − 1))`.
struct Splits {
    /// At `[level][degree]`: how many products that takes at least, and where to begin. `None` where it cannot be ready in
    /// time.
    best: Vec<Vec<Option<(u32, Split)>>>,
}

impl Splits {
    /// `None` if a polynomial of this degree cannot be ready at level `depth`.
    fn new(form: Form, degree: usize, depth: u32, babies: u32, giants: u32) -> Option<Self> {
        let step = if form == Form::Odd { 2 } else { 1 };
        let mut best: Vec<Vec<Option<(u32, Split)>>> = vec![vec![None; degree + 1]];
        for level in 1..=depth {
            let mut row: Vec<Option<(u32, Split)>> = vec![None; degree + 1];
            for i in (1..=degree).step_by(step) {
                let is_sum = i < 1 << babies && i <= 1 << (level - 1);
                // T_(2^k) is there at level k, and the product with it one level later.
                let at = |k: u32| {
                    let giant = 1 << k;
                    let remainder = row.get(giant - 1).copied().flatten()?.0;
                    let quotient = match i.checked_sub(giant)? {
                        // A multiple of the giant step joins the sum that ends the remainder.
                        0 => 0,
                        rest => best[level as usize - 1][rest]?.0 + 1,
                    };
                    Some((quotient + remainder, Split::At(giant)))
                };
                row[i] = match is_sum {
                    true => Some((0, Split::Nowhere)),
                    false => (1..giants.min(level)).filter_map(at).min(),
                };
            }
            best.push(row);
        }
        best[depth as usize][degree]?;
        Some(Self { best })
    }

    fn of(&self, level: u32, degree: usize) -> Split {
        self.best[level as usize][degree].expect("a part that is ready in time").1
    }
}

struct Builder {
    plan: EvaluationPlan,
    form: Form,
    /// The `T_k` that are there.
    powers: Vec<Option<StepId>>,
    splits: Splits,
}

impl Builder {
    /// `T_k`, from the largest power of two below `k` and the rest.
    fn chebyshev(&mut self, k: usize) -> StepId {
        if let Some(id) = self.powers[k] {
            return id;
        }
        let large = if k.is_power_of_two() { k / 2 } else { 1 << k.ilog2() };
        let (left, right) = (self.chebyshev(large), self.chebyshev(k - large));
        let difference = large.abs_diff(k - large);
        let minus = (difference > 0).then(|| self.chebyshev(difference));
        let id = self.plan.push(Operation::Chebyshev { left, right, minus });
        self.powers[k] = Some(id);
        id
    }

    /// A part of a polynomial that has to be ready at `level` of the polynomial, and `more` that is added to it.
    fn part(&mut self, coefficients: &[f64], level: u32, mut more: Vec<(StepId, f64)>) -> StepId {
        let degree = coefficients.len() - 1;
        let giant = match self.splits.of(level, degree) {
            Split::At(giant) => giant,
            Split::Nowhere => {
                let step = if self.form == Form::Odd { 2 } else { 1 };
                let terms = (1..=degree).step_by(step).map(|k| (self.chebyshev(k), coefficients[k]));
                let mut terms: Vec<_> = terms.collect();
                terms.append(&mut more);
                return self.plan.push(Operation::Combination { terms, constant: coefficients[0] });
            }
        };
        if giant == degree {
            more.push((self.chebyshev(giant), coefficients[degree]));
            return self.part(&coefficients[..degree], level, more);
        }
        let (quotient, remainder) = divide(coefficients, giant);
        let left = self.part(&quotient, level - 1, Vec::new());
        let plus = Some(self.part(&remainder, level, more));
        let right = self.chebyshev(giant);
        self.plan.push(Operation::MultiplyAdd { left, right, plus })
    }
}

/// Quotient and remainder of the division by `T_giant`, all in the Chebyshev basis.
fn divide(coefficients: &[f64], giant: usize) -> (Vec<f64>, Vec<f64>) {
    let mut remainder = coefficients.to_vec();
    let mut quotient = vec![0.0; coefficients.len() - giant];
    // T_j = 2 T_giant T_(j − giant) − T_|2 giant − j|, from the highest on.
    for j in (giant + 1..coefficients.len()).rev() {
        quotient[j - giant] = 2.0 * remainder[j];
        remainder[(2 * giant).abs_diff(j)] -= remainder[j];
    }
    quotient[0] = remainder[giant];
    remainder.truncate(giant);
    (quotient, remainder)
}
