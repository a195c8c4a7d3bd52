//! A form of an odd polynomial that float32 evaluates with fewer multiplications.

use crate::polynomial::{OddPolynomial, substitute_affine};

/// An odd polynomial on `[-radius, radius]`, arranged as
///
/// ```text
/// ±scale_out · p(x) = v · g(v²),   v = scale_in · x,   g = y^n + …
/// ```
///
/// where `g` is taken apart, one quadratic factor at a time,
///
/// ```text
/// g(y) = (u − root) · h(y) + value,   u = s² + k s,   s = y − centre,   k = …, −1, 0, 1, …
/// ```
///
/// and `h` likewise, until a core is left, a polynomial of degree 1 or 2 in `s`. So two degrees cost a multiplication,
/// where Horner's rule has two. The additions that take their place run on other units of some processors, beside
/// multiply-adds.
///
/// This is polynomial evaluation with adapted coefficients (D. E. Knuth, The Art of Computer Programming, volume 2,
/// section 4.6.4, theorem E, after J. Eve). There, all factors share one centre, far away from the polynomial's roots,
/// and float32 loses everything. Here each factor may have a centre of its own: `u` is `(y − centre + k/2)²` but for a
/// constant, and from one `k` to the next it is an addition.
///
/// # Accuracy
/// [`AdaptedForm::rounding`] tells what float32 loses. For the published tables it is of the size of what the
/// [`NestedForm`](crate::NestedForm) loses, up to three times that (docs/numerics.md, docs/adr/0012).
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptedForm {
    scale_in: f64,
    scale_out: f64,
    is_negative: bool,
    centre: f64,
    core: Vec<f64>,
    steps: Vec<Step>,
    rounding: f64,
}

/// A quadratic factor and what is added to the product with it: `(u − root) · … + value`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// How many times `s` is added to the `u` of the step before, −1, 0 or 1; 0 for the first one, whose `u` is `s²`.
    pub shift: i32,
    /// What is subtracted from `u`.
    pub root: f64,
    /// What is added to the product.
    pub value: f64,
}

impl AdaptedForm {
    /// Rearranges `polynomial`, for arguments of at most `radius`, so that it gives `scale_out` times its values. Of
    /// the forms that were found with a [`rounding`](Self::rounding) of at most `most_rounding`, it is the one with the
    /// most factors, of these the one with the fewest additions, and of these the most accurate. `None` if there is
    /// none, as for degree 1.
    pub fn new(polynomial: &OddPolynomial, radius: f64, scale_out: f64, most_rounding: f64) -> Option<Self> {
        let odd = polynomial.odd_coefficients();
        let (&leading, others) = odd.split_last()?;
        let scale_in = (leading.abs() * scale_out).powf(1.0 / polynomial.degree() as f64);
        let range = (scale_in * radius).powi(2);
        // Float32 has to hold the powers of y.
        let size = range.powi(others.len() as i32);
        if others.is_empty() || !(f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&size) {
            return None;
        }
        let mut scale = scale_out * leading.signum() / scale_in;
        let mut in_y = Vec::with_capacity(odd.len());
        for c in others {
            in_y.push(c * scale);
            scale /= scale_in * scale_in;
        }
        in_y.push(1.0);

        let (Divided { centre, core, steps }, rounding) =
            FormSearch::new(range).run(&in_y, most_rounding * scale_out)?;
        let rounding = rounding / scale_out;
        Some(Self { scale_in, scale_out, is_negative: leading < 0.0, centre, core, steps, rounding })
    }

    /// What `y` is shifted by.
    pub fn centre(&self) -> f64 {
        self.centre
    }

    /// Coefficients of `1, y − centre, (y − centre)², …` in the core but for the last, which is 1.
    pub fn core(&self) -> &[f64] {
        &self.core
    }

    /// The factors in order of application.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// About how much roundings change a value of `p` at most, in units of half the distance from 1 to the next number.
    pub fn rounding(&self) -> f64 {
        self.rounding
    }

    /// `v · g(v²)`.
    pub fn eval_scaled(&self, v: f64) -> f64 {
        let s = v * v - self.centre;
        let mut g = self.core.iter().rev().fold(1.0, |sum, c| sum * s + c);
        let mut u = s * s;
        for step in &self.steps {
            u += f64::from(step.shift) * s;
            g = (u - step.root) * g + step.value;
        }
        v * g
    }

    /// `p(x)`.
    pub fn eval(&self, x: f64) -> f64 {
        let sign = if self.is_negative { -1.0 } else { 1.0 };
        sign * self.eval_scaled(self.scale_in * x) / self.scale_out
    }
}

/// A composition with each component in its [`AdaptedForm`]. What one gives is scaled as the next one takes it, and
/// the last one gives `s(x) / 2`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptedSign {
    scale: f64,
    components: Vec<AdaptedForm>,
}

/// More rounding than this no component may have, though the composition's error be large.
const MOST_ROUNDING: f64 = 320.0;

impl AdaptedSign {
    /// The form of the composition of `components` for arguments of at most the `radii`. `None` if a component has no
    /// form that is accurate enough: in float32, its rounding may be a quarter of the composition's own error.
    pub(crate) fn new(components: &[OddPolynomial], radii: &[f64]) -> Option<Self> {
        let (last, &radius) = (components.last()?, radii.last()?);
        let own_error = (last.max_abs_on(radius) - 1.0).abs();
        let most_rounding = (own_error / 4.0 / f64::from(f32::EPSILON / 2.0)).min(MOST_ROUNDING);
        let mut scale = 0.5;
        let mut sign = 1.0;
        let mut forms = Vec::with_capacity(components.len());
        for (polynomial, &radius) in components.iter().zip(radii).rev() {
            let form = AdaptedForm::new(polynomial, radius, scale, most_rounding)?;
            scale = form.scale_in;
            if form.is_negative {
                sign = -sign;
            }
            forms.push(form);
        }
        forms.reverse();
        Some(Self { scale: sign * scale, components: forms })
    }

    /// What `x` is multiplied by for the first component. Negative where components have changed the sign.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The components, in order of application.
    pub fn components(&self) -> &[AdaptedForm] {
        &self.components
    }

    /// `s(x)`.
    pub fn eval(&self, x: f64) -> f64 {
        2.0 * self.components.iter().fold(self.scale * x, |v, form| form.eval_scaled(v))
    }
}

/// Points at which rounding errors are looked at.
const POINTS: usize = 48;
/// Places for centres, at least.
const CENTRES: f64 = 16.0;
/// How many ways to divide with the same number of additions are followed.
const KEPT: usize = 6;
/// More additions than this are not made for shifts: those of the factors themselves keep the units busy.
const MOST_SHIFTS: i32 = 4;
/// Up to this degree Horner's rule is as short.
const LEAST_DEGREE: usize = 5;

/// A search on a range `[0, range]` of `y`, from the last factor to the first.
struct FormSearch {
    range: f64,
    centres: Vec<f64>,
    points: Vec<f64>,
}

/// A polynomial that has lost some factors.
#[derive(Clone)]
struct Part {
    /// What is left, in `y − centre`.
    rest: Vec<f64>,
    /// Of the last factor that was taken away.
    centre: f64,
    /// In order of division.
    factors: Vec<Factor>,
    /// How often `s` is added to get from one factor to the next.
    shifts: i32,
    /// At each point, the product of the factors.
    product: Vec<f64>,
    /// At each point, about what is lost to rounding behind what is left.
    lost: Vec<f64>,
}

/// `((y − centre)² − root) · … + value`.
#[derive(Clone)]
struct Factor {
    centre: f64,
    root: f64,
    value: f64,
}

/// A polynomial taken apart.
struct Divided {
    centre: f64,
    /// Without the leading 1.
    core: Vec<f64>,
    steps: Vec<Step>,
}

impl FormSearch {
    fn new(range: f64) -> Self {
        // Multiples of a power of two, so that float32 has them, and the distances between them, without an error.
        let step = (range / CENTRES).log2().floor().exp2();
        let centres = (0..).map(|k| f64::from(k) * step).take_while(|c| *c <= range).collect();
        let point = |k| range * (0.5 + 0.5 * (std::f64::consts::PI * k as f64 / (POINTS - 1) as f64).cos());
        Self { range, centres, points: (0..POINTS).map(point).collect() }
    }

    /// The shortest of the forms found whose rounding is at most this, and its rounding.
    fn run(&self, in_y: &[f64], most_rounding: f64) -> Option<(Divided, f64)> {
        let around = |&centre: &f64| Part {
            rest: substitute_affine(in_y, centre, 1.0),
            centre,
            factors: Vec::new(),
            shifts: 0,
            product: vec![1.0; POINTS],
            lost: vec![0.0; POINTS],
        };
        let mut parts: Vec<Part> = self.centres.iter().map(around).collect();
        let mut best = None;
        while let Some(part) = parts.first() {
            best = self.shortest(&parts, most_rounding).or(best);
            let degree = part.rest.len() - 1;
            if degree < if part.factors.is_empty() { LEAST_DEGREE } else { 3 } {
                break;
            }
            let mut next: Vec<(f64, Part)> = parts.iter().flat_map(|part| self.divisions(part)).collect();
            next.sort_by(|(a_lost, a), (b_lost, b)| a.shifts.cmp(&b.shifts).then(a_lost.total_cmp(b_lost)));
            let alike = next.chunk_by(|(_, a), (_, b)| a.shifts == b.shifts);
            parts = alike.flat_map(|alike| alike.iter().take(KEPT)).map(|(_, part)| part.clone()).collect();
        }
        best
    }

    /// Of these, all with as many factors, the one with the fewest shifts.
    fn shortest(&self, parts: &[Part], most_rounding: f64) -> Option<(Divided, f64)> {
        let forms = parts.iter().map(|part| {
            let divided = part.divided();
            let rounding = self.rounding(&divided);
            (part.shifts, rounding, divided)
        });
        forms
            .filter(|(_, rounding, _)| *rounding <= most_rounding)
            .min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)))
            .map(|(_, rounding, divided)| (divided, rounding))
    }

    /// All ways to take one more factor away, each with about what is lost at most.
    fn divisions(&self, part: &Part) -> Vec<(f64, Part)> {
        let mut divisions = Vec::new();
        for shift in -1..=1i32 {
            let shifts = part.shifts + shift.abs();
            let centre = part.centre + 0.5 * f64::from(shift);
            // The first factor to be taken away may be anywhere: another part begins there.
            let is_needless = part.factors.is_empty() && shift != 0;
            if is_needless || shifts > MOST_SHIFTS || !(0.0..=self.range).contains(&centre) {
                continue;
            }
            let mut part = part.clone();
            part.rest = substitute_affine(&part.rest, centre - part.centre, 1.0);
            (part.centre, part.shifts) = (centre, shifts);
            // With s = y − centre and w = s², the rest is even(w) + s odd(w): a root of `odd` leaves even(root).
            let odd: Vec<f64> = part.rest.iter().copied().skip(1).step_by(2).collect();
            let roots = real_roots(&odd, self.range * self.range);
            divisions.extend(roots.into_iter().map(|root| self.divide(&part, root)));
        }
        divisions
    }

    /// Takes the factor `(y − centre)² − root` from `part`: about what is lost at most, and what is left.
    fn divide(&self, part: &Part, root: f64) -> (f64, Part) {
        let mut after = part.clone();
        for k in (2..after.rest.len()).rev() {
            after.rest[k - 2] += root * after.rest[k];
        }
        let value = after.rest[0];
        after.rest.drain(..2);
        after.factors.push(Factor { centre: part.centre, root, value });
        let mut most = 0f64;
        for (k, &y) in self.points.iter().enumerate() {
            let s = y - part.centre;
            let w = s * s;
            let factor = (w - root).abs();
            let (product, result) = (horner(&after.rest, s).abs(), horner(&part.rest, s).abs());
            let step = result + value.abs() + product * (3.0 * w + root.abs() + factor);
            after.lost[k] += part.product[k] * step;
            after.product[k] *= factor;
            most = most.max(y.sqrt() * after.lost[k]);
        }
        (most, after)
    }

    /// What is lost to rounding at most, by way of the largest error of each operation.
    fn rounding(&self, divided: &Divided) -> f64 {
        let at = |&y: &f64| {
            let s = y - divided.centre;
            // Value and error of each.
            let mut g = divided.core.iter().rev().fold((1.0, 0.0), |(sum, error), c| {
                let next = sum * s + c;
                (next, s.abs() * (error + sum.abs()) + c.abs() + next.abs())
            });
            let mut u = (s * s, 3.0 * s * s);
            for step in &divided.steps {
                if step.shift != 0 {
                    let next = u.0 + f64::from(step.shift) * s;
                    u = (next, u.1 + s.abs() + next.abs());
                }
                let factor = u.0 - step.root;
                let factor_error = u.1 + step.root.abs() + factor.abs();
                let next = factor * g.0 + step.value;
                let error = factor.abs() * g.1 + g.0.abs() * factor_error + step.value.abs() + next.abs();
                g = (next, error);
            }
            y.sqrt() * (g.1 + g.0.abs())
        };
        self.points.iter().map(at).fold(0.0, f64::max)
    }
}

impl Part {
    /// With what is left as the core, and all factors in its `s`.
    fn divided(&self) -> Divided {
        let (mut core, centre) = (self.rest.clone(), self.centre);
        core.pop();
        let mut k = 0;
        let step = |factor: &Factor| {
            // (s + k/2)² is s² + k s + k²/4; centres are halves apart.
            let next = (2.0 * (centre - factor.centre)).round() as i32;
            let shift = next - std::mem::replace(&mut k, next);
            Step { shift, root: factor.root - f64::from(next * next) / 4.0, value: factor.value }
        };
        Divided { centre, core, steps: self.factors.iter().rev().map(step).collect() }
    }
}

fn horner(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// Where in `[-end, end]` the polynomial changes its sign, ascending: at most once between two roots of its derivative.
fn real_roots(coefficients: &[f64], end: f64) -> Vec<f64> {
    if coefficients.len() < 2 {
        return Vec::new();
    }
    let derivative: Vec<f64> = coefficients.iter().enumerate().skip(1).map(|(k, c)| k as f64 * c).collect();
    let mut ends = vec![-end];
    ends.extend(real_roots(&derivative, end));
    ends.push(end);
    let is_positive = |x| horner(coefficients, x) > 0.0;
    let root = |ends: &[f64]| {
        let (mut low, mut high) = (ends[0], ends[1]);
        let at_high = is_positive(high);
        if is_positive(low) == at_high {
            return None;
        }
        loop {
            let middle = f64::midpoint(low, high);
            if middle <= low || middle >= high {
                return Some(middle);
            }
            if is_positive(middle) == at_high { high = middle } else { low = middle }
        }
    };
    ends.windows(2).filter_map(root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Alpha, CompositeSign};
    use proptest::prelude::*;

    /// `v · g(v²)` as float32 does it, with fused multiply-adds.
    fn eval_f32(form: &AdaptedForm, v: f32) -> f32 {
        let s = v.mul_add(v, -form.centre as f32);
        let mut g = form.core.iter().rev().fold(1f32, |sum, &c| sum.mul_add(s, c as f32));
        let mut u = s * s;
        for step in &form.steps {
            u += step.shift as f32 * s;
            g = g.mul_add(u - step.root as f32, step.value as f32);
        }
        v * g
    }

    #[test]
    fn adapted_forms_equal_the_published_polynomials_with_fewer_multiplications() {
        for alpha in Alpha::all() {
            let sign = CompositeSign::published(alpha);
            let adapted = sign.adapted().unwrap();
            let (mut multiplications, mut shifts, mut horner) = (0, 0, 0);
            for ((p, &radius), form) in
                sign.components().iter().zip(sign.input_radii()).zip(adapted.components())
            {
                assert_eq!(2 * form.steps().len() + form.core().len() + 1, p.odd_coefficients().len());
                assert!(form.steps().first().is_none_or(|step| step.shift == 0));
                multiplications += form.steps().len() + form.core().len();
                multiplications += usize::from(!form.steps().is_empty());
                shifts += form.steps().iter().map(|step| step.shift.abs()).sum::<i32>();
                horner += p.odd_coefficients().len();
                // What float64 itself loses in the power basis: its terms are up to 1e9 and cancel.
                let terms: f64 = (p.power_basis().iter().enumerate())
                    .map(|(power, c)| c.abs() * radius.powi(power as i32))
                    .sum();
                for i in -1000..=1000 {
                    let x = radius * f64::from(i) / 1000.0;
                    let difference = (form.eval(x) - p.eval(x)).abs();
                    assert!(difference < 1e-12 + 1e-16 * terms, "alpha {alpha}, x {x}: {difference:e}");
                }
            }
            for i in -1000..=1000 {
                let x = f64::from(i) / 1000.0;
                let difference = (adapted.eval(x) - sign.eval(x)).abs();
                assert!(difference < 1e-7, "alpha {alpha}, x {x}: {difference:e}");
            }
            println!(
                "alpha {alpha}: {multiplications} multiplications, {shifts} shifts; Horner's rule: {horner}"
            );
            assert!(multiplications < horner);
        }
    }

    #[test]
    fn float32_loses_no_more_than_the_form_says() {
        for alpha in Alpha::all() {
            let sign = CompositeSign::published(alpha);
            for (form, &radius) in sign.adapted().unwrap().components().iter().zip(sign.input_radii()) {
                assert!(form.rounding() <= MOST_ROUNDING);
                let mut most = 0f64;
                let allowed = form.rounding() * form.scale_out * f64::from(f32::EPSILON) / 2.0;
                for i in -5000..=5000 {
                    let v = (form.scale_in * radius * f64::from(i) / 5000.0) as f32;
                    let error = (f64::from(eval_f32(form, v)) - form.eval_scaled(f64::from(v))).abs();
                    assert!(error <= allowed, "alpha {alpha}, v {v}: {error:e}, allowed {allowed:e}");
                    most = most.max(error / allowed);
                }
                println!("alpha {alpha}: {most:.2} of the rounding {:.0}", form.rounding());
            }
        }
    }

    #[test]
    fn what_float32_cannot_hold_has_no_form() {
        let accurate =
            |odd: &[f64], most| AdaptedForm::new(&OddPolynomial::new(odd.to_vec()), 1.0, 0.5, most);
        assert_eq!(accurate(&[3.0], 1e9), None, "degree 1");
        assert_eq!(accurate(&[1.0, 0.0], 1e9), None, "a leading coefficient of 0");
        assert_eq!(accurate(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e-300], 1e9), None, "powers that underflow");
        assert_eq!(accurate(&[1.0, -2.0, 3.0], 1.0), None, "more accurate than float32");
        assert!(accurate(&[1.0, -2.0, 3.0], 100.0).is_some());
    }

    #[test]
    fn roots_are_found_between_those_of_the_derivative() {
        // (x + 3)(x − 1)(x − 2)(x² + 1)
        let roots = real_roots(&[6.0, -7.0, 6.0, -6.0, 0.0, 1.0], 5.0);
        assert_eq!(roots.len(), 3);
        for (root, expected) in roots.iter().zip([-3.0, 1.0, 2.0]) {
            assert!((root - expected).abs() < 1e-14, "{root}");
        }
        assert_eq!(real_roots(&[6.0, -7.0, 6.0, -6.0, 0.0, 1.0], 1.5).len(), 1);
        assert!(real_roots(&[1.0, 0.0, 1.0], 9.0).is_empty());
        assert!(real_roots(&[1.0], 9.0).is_empty());
    }

    proptest! {
        #[test]
        fn any_polynomial_equals_its_form(
            odd in prop::collection::vec(prop_oneof![-9.0..-0.1f64, 0.1..9.0f64], 2..20), radius in 0.5..2.0f64,
        ) {
            let p = OddPolynomial::new(odd);
            // A centre may be the radius away, so that terms grow before they cancel.
            let size: f64 = p.odd_coefficients().iter().enumerate()
                .map(|(k, c)| c.abs() * radius * (2.0 * radius * radius).powi(k as i32)).sum();
            if let Some(form) = AdaptedForm::new(&p, radius, 0.7, f64::INFINITY) {
                for i in 0..=50 {
                    let x = radius * f64::from(i) / 50.0;
                    prop_assert!((form.eval(x) - p.eval(x)).abs() < 1e-14 * (size + form.rounding()), "x {}", x);
                }
            }
        }
    }
}

#[cfg(all(test, feature = "generate"))]
mod exact_tests {
    use crate::exact::{ExactPolynomial, exact};
    use crate::{Alpha, CompositeSign};

    /// Float64 loses 1e-6 of the second component of alpha 14 in the power basis; the form is no worse.
    #[test]
    fn adapted_forms_are_as_close_to_the_exact_polynomials_as_horners_rule() {
        for alpha in Alpha::all() {
            let sign = CompositeSign::published(alpha);
            let forms = sign.adapted().unwrap().components();
            for ((p, &radius), form) in sign.components().iter().zip(sign.input_radii()).zip(forms) {
                let truth = ExactPolynomial::odd(p.odd_coefficients());
                let mut worst = [0f64; 2];
                for i in 0..=200 {
                    let x = radius * f64::from(i) / 200.0;
                    let truth = truth.eval(&exact(x)).to_f64().value();
                    for (worst, value) in worst.iter_mut().zip([form.eval(x), p.eval(x)]) {
                        *worst = worst.max((value - truth).abs());
                    }
                }
                println!("alpha {alpha}, degree {}: {:.1e}, Horner {:.1e}", p.degree(), worst[0], worst[1]);
                assert!(worst[0] < 1e-13 + 4.0 * worst[1], "alpha {alpha}: {worst:?}");
            }
        }
    }
}
