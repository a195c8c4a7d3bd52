//! Smooth activation functions and their polynomials, against mpmath and dense grids.

use minimax_coeffs::smooth::{approximate, tolerance};
use minimax_coeffs::{Smooth, SmoothApproximation, SmoothError};

/// `(x, [(value, derivative) of each of Smooth::ALL])`, by mpmath with 50 digits (tests/smooth_truth.py).
const TRUTH: &[(f64, [(f64, f64); 5])] = &include!("smooth_truth.in");

#[test]
fn functions_and_derivatives_are_those_of_mpmath() {
    for (x, values) in TRUTH {
        for (f, (value, derivative)) in Smooth::ALL.iter().zip(values) {
            for (found, expected) in [(f.eval(*x), *value), (f.derivative(*x), *derivative)] {
                // In the tails, exp and erfc multiply the rounding of their argument by it.
                let allowed = 4.0 * f64::EPSILON * (1.0 + x * x) * expected.abs().max(1e-3);
                assert!((found - expected).abs() <= allowed, "{} at {x}: {found}, not {expected}", f.name());
            }
        }
    }
}

/// Places that crowd towards the ends, and even ones.
fn grid(bound: f64, steps: u32) -> impl Iterator<Item = f64> {
    let part = move |i: u32| f64::from(i) / f64::from(steps);
    let crowded = (0..=steps).map(move |i| bound * (std::f64::consts::PI * part(i)).cos());
    crowded.chain((0..=steps).map(move |i| bound * (2.0 * part(i) - 1.0)))
}

#[test]
fn errors_keep_to_the_tolerance_and_to_what_is_proven_and_one_degree_less_does_not() {
    for f in Smooth::ALL {
        for (bound, alpha) in [(0.5, 20), (4.0, 10), (10.0, 14), (20.0, 7), (50.0, 14)] {
            // tanh(x) is the sigmoid of 2x, so to speak, and takes twice the degree.
            let bound = if f == Smooth::Tanh { bound / 2.0 } else { bound };
            let allowed = tolerance(f, bound, alpha);
            let p = approximate(f, bound, alpha).unwrap();
            let what = format!("{} on {bound} with {alpha} bits, degree {}", f.name(), p.degree());
            assert!(p.certified() <= allowed, "{what}: {} of {allowed}", p.certified());
            let largest = grid(bound, 20_000).map(|x| (p.eval(x) - f.eval(x)).abs()).fold(0.0, f64::max);
            assert!(largest <= p.certified(), "{what}: {largest}, proven {}", p.certified());
            assert!(largest >= 0.999 * p.certified(), "{what}: {largest}, proven {}", p.certified());
            if p.degree() > 2 {
                let lower = SmoothApproximation::of_degree(f, bound, p.degree() - 1).unwrap();
                assert!(lower.degree() < p.degree(), "{what}");
                // All but the part in 10,000 that a proof may leave out.
                assert!(lower.least_error() * 1.0003 > allowed, "{what}: {}", lower.least_error());
            }
        }
    }
}

#[test]
fn errors_alternate_as_often_as_those_of_the_best_polynomial() {
    for f in Smooth::ALL {
        let p = approximate(f, 12.0, 12).unwrap();
        let xs = (0..=40_000).map(|i| -12.0 * (std::f64::consts::PI * f64::from(i) / 40_000.0).cos());
        let mut signs: Vec<bool> = Vec::new();
        for error in xs.map(|x| p.eval(x) - f.eval(x)).filter(|e| e.abs() > 0.998 * p.certified()) {
            if signs.last() != Some(&(error > 0.0)) {
                signs.push(error > 0.0);
            }
        }
        assert!(
            signs.len() >= p.degree() + 2,
            "{}: degree {}, {} extrema",
            f.name(),
            p.degree(),
            signs.len()
        );
    }
}

#[test]
fn derivatives_are_those_of_finite_differences() {
    for f in Smooth::ALL {
        let p = approximate(f, 8.0, 12).unwrap();
        let h = 1e-5;
        for x in (-79..80).map(|i| f64::from(i) / 10.0) {
            let numeric = (p.eval(x + h) - p.eval(x - h)) / (2.0 * h);
            let derivative = p.eval_with_derivative(x).1;
            assert!((numeric - derivative).abs() < 1e-7, "{} at {x}: {derivative}, not {numeric}", f.name());
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    assert!(matches!(approximate(Smooth::Sigmoid, f64::NAN, 8), Err(SmoothError::Bound(_))));
    assert!(matches!(approximate(Smooth::Sigmoid, 0.0, 8), Err(SmoothError::Bound(_))));
    assert!(matches!(approximate(Smooth::Sigmoid, 1.0, 0), Err(SmoothError::Alpha(0))));
    assert!(matches!(approximate(Smooth::Sigmoid, 1.0, 31), Err(SmoothError::Alpha(31))));
    assert!(matches!(approximate(Smooth::Tanh, 500.0, 14), Err(SmoothError::TooWide { .. })));
    let degree = |degree| SmoothApproximation::of_degree(Smooth::Silu, 1.0, degree);
    assert!(matches!(degree(0), Err(SmoothError::Degree { degree: 0, .. })));
    assert!(matches!(degree(256), Err(SmoothError::Degree { degree: 256, .. })));
}

#[test]
fn the_form_in_the_square_is_the_same_polynomial() {
    for f in Smooth::ALL {
        let p = approximate(f, 16.0, 12).unwrap();
        let form = p.in_square();
        for x in grid(16.0, 500) {
            let z = x / 16.0;
            let angle = (2.0 * z * z - 1.0).clamp(-1.0, 1.0).acos();
            let q = form.coefficients.iter().enumerate();
            let sum: f64 = q.map(|(k, q)| q * (k as f64 * angle).cos()).sum();
            let value = form.offset + form.slope * x + if form.is_odd { z * sum } else { sum };
            assert!((value - p.eval(x)).abs() < 1e-12, "{} at {x}: {value}, not {}", f.name(), p.eval(x));
        }
    }
}

#[test]
fn the_plan_is_the_same_polynomial_at_the_least_depth() {
    for f in Smooth::ALL {
        for degree in [1, 2, 7, 16, 31, 60] {
            let p = SmoothApproximation::of_degree(f, 30.0, degree).unwrap();
            let plan = p.plan();
            assert_eq!(plan.levels(), (p.degree() + 1).next_power_of_two().ilog2(), "{}", f.name());
            assert_eq!(plan.cost(), p.cost());
            for x in grid(30.0, 200) {
                let (found, expected) = (plan.eval(x / 30.0), p.eval(x));
                assert!((found - expected).abs() < 1e-12, "{} at {x}: {found}, not {expected}", f.name());
            }
        }
    }
    // T_2 takes one product and its coefficient another level; the line takes no product.
    let silu = SmoothApproximation::of_degree(Smooth::Silu, 30.0, 2).unwrap().cost();
    assert_eq!((silu.depth, silu.non_scalar_multiplications), (2, 1));
}
