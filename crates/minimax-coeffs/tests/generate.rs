//! The generator against the published tables, known best approximations and the definition of one.

use minimax_coeffs::compose::{PUBLISHED_ETA, PUBLISHED_FACTORS, compose, sign_minimax};
use minimax_coeffs::real::{Big, Real, big, bits_of_digits, from_decimal};
use minimax_coeffs::remez::{Parity, Problem, RemezError};
use minimax_coeffs::schedule;
use minimax_coeffs::target::Target;
use minimax_coeffs::{Alpha, CompositeSign, Generated, tables};
use proptest::prelude::*;

fn bits() -> usize {
    bits_of_digits(60)
}

#[test]
fn every_published_table_is_reproduced_in_all_printed_digits() {
    for (alpha, f) in Alpha::all().zip(PUBLISHED_FACTORS) {
        let right = if alpha.bits() < 6 { 2.0 } else { 1.0 };
        let first = [f64::from(f) * alpha.epsilon(), right].map(|x| big(x, bits()));
        let published = tables::published(alpha);
        let degrees = CompositeSign::published(alpha).degrees();
        let ours = compose(first, &degrees, &big(PUBLISHED_ETA, bits()), 1e-30).unwrap();
        for (ours, published) in ours.iter().zip(published.components()) {
            let ours = ours.minimax.power_basis();
            assert_eq!(2 * ours.len(), published.len());
            for (k, c) in ours.iter().enumerate() {
                let printed = from_decimal(&published[2 * k + 1], bits());
                let difference = ((c.clone() - &printed) / &printed).as_f64().abs();
                // They print 20 significant digits.
                assert!(difference < 5e-20, "alpha {alpha}, x^{}: {difference:e}", 2 * k + 1);
            }
        }
    }
}

#[test]
fn the_best_approximation_of_a_power_is_chebyshevs() {
    // x^n − p(x) = T_n(x) / 2^(n−1) is the smallest there is (Chebyshev, 1854).
    for n in 2..=12_usize {
        let power = |x: &Big, k: usize| (0..k).fold(x.lift(1.0), |p, _| p * x);
        let function = |x: &Big| (power(x, n), power(x, n - 1) * &x.lift(n as f64));
        let intervals = vec![[big(-1.0, bits()), big(1.0, bits())]];
        let found =
            Problem { function: &function, intervals, parity: Parity::Any, terms: n }.solve(1e-30).unwrap();
        let expected = big((1.0 - n as f64).exp2(), bits());
        let difference = ((found.error - &expected) / &expected).as_f64().abs();
        assert!(difference < 1e-29, "x^{n}: {difference:e}");
    }
}

#[test]
fn the_sign_on_two_intervals_has_the_odd_approximation() {
    // The best approximation of an odd function on a symmetric set is odd.
    let sign = |x: &f64| (x.signum(), 0.0);
    for (a, degree) in [(0.3, 5), (0.1, 9), (0.05, 15)] {
        let intervals = vec![[-1.0, -a], [a, 1.0]];
        let two = Problem { function: &sign, intervals, parity: Parity::Any, terms: degree + 1 };
        let two = two.solve(1e-10).unwrap();
        let odd = sign_minimax(&[a, 1.0], degree, 1e-10).unwrap();
        assert!((two.error - odd.error).abs() < 1e-9 * odd.error, "{} {}", two.error, odd.error);
        for (k, c) in two.power_basis().iter().enumerate() {
            let expected = if k % 2 == 0 { 0.0 } else { odd.power_basis()[k / 2] };
            assert!((c - expected).abs() < 1e-5 * (1.0 + expected.abs()), "x^{k}: {c} {expected}");
        }
    }
}

#[test]
fn other_activations_are_approximated_too() {
    // SiLU on [-6, -1] ∪ [1, 6], held against a dense grid.
    let silu = |x: &f64| {
        let s = 1.0 / (1.0 + (-x).exp());
        (x * s, s * (1.0 + x * (1.0 - s)))
    };
    let intervals = vec![[-6.0, -1.0], [1.0, 6.0]];
    let found = Problem { function: &silu, intervals, parity: Parity::Any, terms: 9 }.solve(1e-9).unwrap();
    assert_eq!(found.reference.len(), 10);
    let grid = (0..=100_000).map(|i| 1.0 + 5e-5 * f64::from(i)).flat_map(|x| [-x, x]);
    let largest = grid.map(|x| (found.eval(&x) - silu(&x).0).abs()).fold(0.0, f64::max);
    assert!((largest - found.error).abs() < 1e-6 * found.error, "{largest} {}", found.error);
}

#[test]
fn schedules_for_relu_are_the_papers_or_cheaper() {
    let papers = Alpha::all().map(|alpha| (alpha, CompositeSign::published(alpha)));
    for (alpha, published) in papers {
        let target = Target::Relu { alpha: alpha.bits() };
        let found = schedule::search(target, 31, PUBLISHED_ETA).unwrap();
        assert!(found.error <= alpha.epsilon());
        let (ours, theirs) = (found.cost, published.cost());
        match alpha.bits() {
            // The paper's intervals are twice as wide as needed; degree 3 and degree 7 will do.
            4 => assert_eq!((found.degrees, ours.depth, theirs.depth), (vec![3], 2, 3)),
            5 => assert_eq!((found.degrees, ours.depth, theirs.depth), (vec![7], 3, 4)),
            _ => assert_eq!((found.degrees, ours), (published.degrees(), theirs)),
        }
    }
}

#[test]
fn the_dynamic_programming_finds_what_trying_everything_finds() {
    // All sequences of up to three degrees up to 15, the cheapest first.
    for (precision, epsilon) in [(4, 0.05), (7, 0.02), (9, 0.2), (3, 0.004)] {
        let target = Target::Sign { precision, epsilon };
        let found = schedule::search(target, 15, 1e-6).unwrap();
        let degrees: Vec<usize> = (3..=15).step_by(2).collect();
        let mut all: Vec<Vec<usize>> = vec![vec![]];
        let mut frontier = all.clone();
        for _ in 0..3 {
            frontier = frontier
                .iter()
                .flat_map(|s| degrees.iter().map(|d| [s.as_slice(), &[*d]].concat()))
                .collect();
            all.extend(frontier.clone());
        }
        let reaches = |degrees: &[usize]| match compose([epsilon, 1.0], degrees, &1e-6, 1e-9) {
            Ok(components) => components[components.len() - 1].minimax.error <= target.error(),
            Err(_) => false,
        };
        let cost = |degrees: &[usize]| {
            let costs = degrees.iter().map(|d| minimax_coeffs::Cost::of_odd_polynomial(*d).unwrap());
            let cost = costs.reduce(|a, b| a + b).unwrap();
            (cost.depth, cost.non_scalar_multiplications)
        };
        let cheapest = all.iter().filter(|s| !s.is_empty() && reaches(s)).map(|s| cost(s)).min().unwrap();
        assert_eq!((found.cost.depth, found.cost.non_scalar_multiplications), cheapest, "{target}");
        assert!(reaches(&found.degrees));
    }
}

#[test]
fn generated_tables_keep_their_target() {
    for (alpha, degrees) in
        [(4, &[3][..]), (5, &[7]), (10, &[7, 7, 13]), (14, &[15, 27, 29]), (16, &[7, 7, 7, 15, 15])]
    {
        let target = Target::Relu { alpha };
        let sign = CompositeSign::generate(target, degrees, 1e-6).unwrap().composite();
        let error = (0..=200_000)
            .flat_map(|i| [f64::from(i) / 2e5, f64::from(i) / 2e5 * 40.0 * target.error()])
            .filter(|x| *x <= 1.0)
            .map(|x| (sign.relu(x, 1.0) - x).abs().max(sign.relu(-x, 1.0).abs()))
            .fold(0.0, f64::max);
        assert!(error <= target.error() && error > target.error() / 2.0, "alpha {alpha}: {error:e}");
    }
}

#[test]
fn bad_input_is_refused_with_numbers() {
    let relu = |alpha| Target::Relu { alpha };
    let sign = |precision, epsilon| Target::Sign { precision, epsilon };
    let cases: [(Target, &[usize], f64, &str); 14] = [
        (relu(10), &[7, 8], 1e-6, "degree 8: components have odd degrees from 1 to 63"),
        (relu(10), &[0], 1e-6, "degree 0: components have odd degrees"),
        (relu(10), &[65], 1e-6, "degree 65: components have odd degrees"),
        (relu(10), &[], 1e-6, "at least one degree"),
        (relu(0), &[7], 1e-6, "the precision is 0 bits, but must be from 1 to 26"),
        (relu(60), &[7], 1e-6, "the precision is 60 bits"),
        (relu(10), &[7, 7], 1e-6, "degrees [7, 7] do not reach ReLU within 2^-10: with the margin 1e-6 the"),
        (relu(10), &[7, 7], -1.0, "the margin eta is -1e0"),
        (relu(10), &[7, 7], f64::NAN, "the margin eta is NaN"),
        (relu(10), &[3, 7, 7], 0.9, "approximate 1 next to 0"),
        (sign(10, 0.0), &[7], 1e-6, "epsilon is 0.0, but must be at least 1e-9 and below 1"),
        (sign(10, 1.0), &[7], 1e-6, "epsilon is 1.0"),
        (sign(10, f64::NAN), &[7], 1e-6, "epsilon is NaN"),
        (sign(26, 0.5), &[63, 63, 63], 0.0, "is lost in rounding, which is"),
    ];
    for (target, degrees, eta, expected) in cases {
        let error = CompositeSign::generate(target, degrees, eta).unwrap_err().to_string();
        assert!(error.contains(expected), "{target} {degrees:?} {eta}: {error}");
    }
    let cases = [
        (relu(10), 30, 1e-6, "the largest degree is 30, but must be odd and between 3 and 63"),
        (relu(10), 65, 1e-6, "the largest degree is 65"),
        (relu(0), 31, 1e-6, "the precision is 0 bits"),
        (relu(20), 31, 0.5, "depth up to 48 reaches ReLU within 2^-20 with the margin 5e-1"),
        (relu(10), 31, f64::INFINITY, "the margin eta is inf"),
    ];
    for (target, max_degree, eta, expected) in cases {
        let error = schedule::search(target, max_degree, eta).unwrap_err().to_string();
        assert!(error.contains(expected), "{target} {max_degree} {eta}: {error}");
    }
    let intervals = [
        vec![],
        vec![[0.5, 0.5]],
        vec![[0.0, 1.0]],
        vec![[-1.0, 1.0]],
        vec![[0.5, 0.7], [0.6, 1.0]],
        vec![[0.5, f64::INFINITY]],
        vec![[f64::NAN, 1.0]],
    ];
    for intervals in intervals {
        let one = |_: &f64| (1.0, 0.0);
        let problem = Problem { function: &one, intervals, parity: Parity::Odd, terms: 4 };
        let error = problem.solve(1e-9).unwrap_err();
        assert!(matches!(error, RemezError::Intervals { .. }), "{error}");
    }
}

#[test]
fn too_few_working_digits_are_told_and_more_change_nothing() {
    let target = Target::Relu { alpha: 14 };
    let with = |digits| Generated::with_digits(target, &[15, 27, 29], 1e-6, digits);
    for digits in [1, 15, 25, 33] {
        let error = with(digits).unwrap_err().to_string();
        assert!(error.contains("digits"), "{error}");
    }
    assert_eq!(with(60).unwrap().table, with(120).unwrap().table);
}

#[test]
fn tables_that_float64_cannot_hold_have_no_record() {
    // Coefficients of up to 1e10 are off by 1e-6 as float64 numbers.
    let record = |alpha, degrees: &[usize], eta| {
        CompositeSign::generate(Target::Relu { alpha }, degrees, eta).unwrap().record()
    };
    let degrees = [29, 29, 29, 31, 31];
    let error = record(24, &degrees, 1e-8).unwrap_err().to_string();
    let expected = "reach ReLU within 2^-24, but with coefficients rounded to float64 the error is";
    assert!(error.starts_with("degrees [29, 29, 29, 31, 31] ") && error.contains(expected), "{error}");
    let error = record(24, &degrees, 1e-6).unwrap_err().to_string();
    assert!(error.contains("coefficients rounded to float64: component 4 gives values from"), "{error}");
    assert!(record(14, &[15, 27, 29], 1e-8).unwrap().certificates[0].relu_error <= Alpha::MAX.epsilon());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Chebyshev's theorem: the best approximation is the one whose error alternates n + 1 times.
    #[test]
    fn the_error_equioscillates_and_falls_with_the_degree(
        start in -7.0..-0.3f64, ratio in 1.5..2000.0f64, half in 1usize..16,
    ) {
        let (left, degree) = (start.exp(), 2 * half - 1);
        let interval = [left, left * ratio].map(|x| big(x, bits()));
        let found = sign_minimax(&interval, degree, 1e-25).unwrap();
        prop_assert_eq!(found.reference.len(), half + 1);
        let mut signs = Vec::new();
        for x in &found.reference {
            // By the printed form of the polynomial.
            let y = x.clone() * x;
            let p = found.power_basis().iter().rev().fold(x.lift(0.0), |sum, c| sum * &y + c) * x;
            let error = p - &x.lift(1.0);
            let size = (error.abs() / &found.error).as_f64();
            prop_assert!((size - 1.0).abs() < 1e-20, "{}", size);
            signs.push(error < error.lift(0.0));
        }
        prop_assert!(signs.windows(2).all(|pair| pair[0] != pair[1]));
        for i in 0..=400 {
            let x = interval[0].clone() + &((interval[1].clone() - &interval[0]) * &interval[0].lift(f64::from(i) / 400.0));
            let error = (found.eval(&x) - &x.lift(1.0)).abs();
            prop_assert!(error <= found.error.clone() * &x.lift(1.0 + 1e-12), "{}", x);
        }
        let higher = sign_minimax(&interval, degree + 2, 1e-25).unwrap();
        prop_assert!(higher.error < found.error);
    }

    #[test]
    fn generated_compositions_are_odd(bits in 4u8..=12, x in 0.0..1.0f64) {
        let found = schedule::search(Target::Relu { alpha: bits }, 31, 1e-6).unwrap();
        let sign = CompositeSign::generate(Target::Relu { alpha: bits }, &found.degrees, 1e-6).unwrap().composite();
        prop_assert_eq!(sign.eval(-x), -sign.eval(x));
        prop_assert!((sign.relu(x, 1.0) - x).abs() <= (-f64::from(bits)).exp2());
    }
}
