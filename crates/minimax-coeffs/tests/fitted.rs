//! Fitted polynomials against weighted least squares by NumPy (fitted_truth.py).

use minimax_coeffs::ActivationFunction;
use minimax_coeffs::fitted::{Density, FLOOR, Fit};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    function: String,
    points: Vec<(f64, f64)>,
    interval: [f64; 2],
    coefficients: Vec<f64>,
}

#[test]
fn fits_are_numpys() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("fitted_truth.json")).unwrap();
    assert_eq!(cases.len(), 15);
    for Case { function, points, interval, coefficients } in cases {
        let f = match &*function {
            "relu" => ActivationFunction::Relu,
            "silu" => ActivationFunction::Silu,
            other => panic!("{other}"),
        };
        let fit = Fit::new(f, &Density::new(points).unwrap(), interval, FLOOR).unwrap();
        let p = fit.polynomial(coefficients.len() - 1).unwrap();
        let size = coefficients.iter().map(|c| c.abs()).fold(0.0, f64::max);
        for (order, (found, truth)) in p.coefficients().iter().zip(&coefficients).enumerate() {
            assert!(
                (found - truth).abs() < 1e-9 * size,
                "{function}, degree {}, T_{order}: {found}, NumPy has {truth}",
                p.degree()
            );
        }
    }
}
