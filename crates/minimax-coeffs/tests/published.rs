//! The published tables against independent truth: the sign function, the exact maximum, golden values.

use minimax_coeffs::{Alpha, CompositeSign};
use proptest::prelude::*;

/// `-log2` of the largest error of ReLU on `[-1, 1]`, measured on the tables in float64 arithmetic elsewhere.
const ACHIEVED_BITS: [f64; 11] = [3.71, 4.86, 6.05, 7.04, 8.03, 9.01, 10.11, 11.05, 12.09, 13.08, 14.02];

/// Degrees as printed by Lee et al. (arXiv 2105.10879).
const DEGREES: [&[usize]; 11] = [
    &[5],
    &[13],
    &[3, 7],
    &[7, 7],
    &[7, 15],
    &[15, 15],
    &[7, 7, 13],
    &[7, 7, 27],
    &[7, 15, 27],
    &[15, 15, 27],
    &[15, 27, 29],
];

fn largest_relu_error(sign: &CompositeSign) -> f64 {
    const STEPS: i32 = 1_000_000;
    (-STEPS..=STEPS)
        .map(|i| f64::from(i) / f64::from(STEPS))
        .map(|x| (sign.relu(x, 1.0) - x.max(0.0)).abs())
        .fold(0.0, f64::max)
}

#[test]
fn relu_reaches_the_stated_precision() {
    for (alpha, bits) in Alpha::all().zip(ACHIEVED_BITS) {
        let error = largest_relu_error(CompositeSign::published(alpha));
        assert!((-error.log2() - bits).abs() < 0.01, "alpha {alpha}: 2^{:.3}", error.log2());
        // Alpha 4 and 5 are known to miss it.
        assert_eq!(error <= alpha.epsilon(), alpha.bits() >= 6, "alpha {alpha}");
    }
}

#[test]
fn degrees_depth_and_multiplications_are_the_papers() {
    for (alpha, degrees) in Alpha::all().zip(DEGREES) {
        assert_eq!(CompositeSign::published(alpha).degrees(), degrees, "alpha {alpha}");
    }
    let cost = CompositeSign::published(Alpha::MAX).cost();
    assert_eq!((cost.depth, cost.non_scalar_multiplications), (4 + 5 + 5, 8 + 10 + 11));
    let relu = CompositeSign::published(Alpha::MAX).relu_cost();
    assert_eq!((relu.depth, relu.non_scalar_multiplications), (15, 30));
}

#[test]
fn each_component_stays_in_the_domain_of_the_next() {
    for alpha in Alpha::all() {
        let sign = CompositeSign::published(alpha);
        for i in 0..=100_000 {
            let mut x = f64::from(i) / 100_000.0;
            for (p, &radius) in sign.components().iter().zip(sign.input_radii()) {
                assert!(x.abs() <= radius, "alpha {alpha}: {x} leaves {radius}");
                x = p.eval(x);
            }
        }
    }
}

proptest! {
    #[test]
    fn sign_is_odd(bits in 4u8..=14, x in -1.0..1.0f64) {
        let sign = CompositeSign::published(Alpha::new(bits).unwrap());
        prop_assert_eq!(sign.eval(-x), -sign.eval(x));
    }

    #[test]
    fn maximum_is_within_two_to_minus_alpha(bits in 6u8..=14, a in 0.0..1.0f64, b in 0.0..1.0f64) {
        let alpha = Alpha::new(bits).unwrap();
        let error = CompositeSign::published(alpha).max(a, b) - a.max(b);
        prop_assert!(error.abs() <= alpha.epsilon(), "{}", error);
    }

    // Above alpha 10 the rounding errors of float64 in the power basis drown a difference quotient.
    #[test]
    fn relu_derivative_is_that_of_finite_differences(bits in 4u8..=10, x in -20.0..20.0f64) {
        let sign = CompositeSign::published(Alpha::new(bits).unwrap());
        let h = 1e-6;
        let numeric = (sign.relu(x + h, 20.0) - sign.relu(x - h, 20.0)) / (2.0 * h);
        prop_assert!((numeric - sign.relu_derivative(x, 20.0)).abs() < 1e-3);
    }
}

#[cfg(feature = "serde")]
#[test]
fn alpha_is_a_number_in_json_and_checked_on_reading() {
    assert_eq!(serde_json::to_string(&Alpha::MAX).unwrap(), "14");
    assert_eq!(serde_json::from_str::<Alpha>("7").unwrap().bits(), 7);
    assert!(serde_json::from_str::<Alpha>("15").unwrap_err().to_string().contains("alpha is 15"));
}
