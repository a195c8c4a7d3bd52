//! Policies as text: what is written is read back, and what is damaged is refused with the reason.

use std::sync::Arc;

use cnn_graph::policy::{ActivationPolicy, Composition, CompositionError, SitePolicy, v1};
use minimax_coeffs::{Alpha, CompositeSign, TableFile};
use serde_json::{Value, json};

/// A table of the committed file with a margin of 1e-6.
fn generated(alpha: u8) -> Arc<Composition> {
    let file = TableFile::parse(include_str!("../../minimax-coeffs/tables/eta_1e-6.json")).unwrap();
    Composition::from_table(file.relu(alpha).unwrap()).unwrap()
}

/// Published polynomials, generated ones at two sites, and others.
fn mixed() -> ActivationPolicy {
    let [nine, sixteen] = [9, 16].map(generated);
    ActivationPolicy::minimax(Alpha::new(7).unwrap(), 20.5, 1.0 / 3.0)
        .with_site("relu1", SitePolicy::minimax(&nine, 3.25))
        .with_site("pool", SitePolicy::minimax(&sixteen, 0.1))
        .with_site("relu2", SitePolicy::minimax(&nine, 7.0))
        .with_site("relu3", SitePolicy::Square)
        .with_site("relu4", SitePolicy::ReluAq)
        .with_site("relu5", SitePolicy::Exact)
}

fn read(value: &Value) -> Result<ActivationPolicy, String> {
    serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())
}

#[test]
fn a_policy_is_read_back_with_the_polynomials_that_it_uses() {
    let policy = mixed();
    let value = serde_json::to_value(&policy).unwrap();
    assert_eq!(read(&value).unwrap(), policy);
    assert_eq!(value["relu"], json!({"method": "minimax", "alpha": 7, "bound": 20.5}));
    assert_eq!(value["sites"]["relu3"], json!({"method": "square"}));
    let digest = generated(9).digest().to_owned();
    for site in ["relu1", "relu2"] {
        assert_eq!(value["sites"][site]["composition"], json!(digest));
        assert_eq!(value["sites"][site]["alpha"], Value::Null);
    }
    let tables = value["compositions"].as_object().unwrap();
    assert_eq!(tables.len(), 2);
    assert_eq!(tables[&digest]["bits"], json!(9));
    // The coefficients are the text of the file they are from, and what is read costs what that file says.
    let file = TableFile::parse(include_str!("../../minimax-coeffs/tables/eta_1e-6.json")).unwrap();
    let table = file.relu(9).unwrap();
    for (component, text) in table.components.iter().zip(tables[&digest]["coefficients"].as_array().unwrap())
    {
        assert_eq!(json!(component.power), *text);
    }
    let (composition, bound) = (generated(9), 3.25);
    assert_eq!(composition.sign().relu_cost(), table.relu_cost);
    assert_eq!(composition.sign().margin(), 1e-6);
    assert_eq!(policy.sites["relu1"].approximation().unwrap(), (&composition, bound));
    // Without generated polynomials, there is no table.
    let published = serde_json::to_value(ActivationPolicy::minimax(Alpha::MAX, 1.0, 1.0)).unwrap();
    assert_eq!(published.get("compositions"), None);
}

#[test]
fn a_published_composition_is_the_same_everywhere_and_has_a_digest_of_its_own() {
    let all: Vec<_> = Alpha::all().map(Composition::published).collect();
    for (composition, alpha) in all.iter().zip(Alpha::all()) {
        assert!(Arc::ptr_eq(composition, &Composition::published(alpha)));
        assert_eq!(composition.digest(), CompositeSign::published(alpha).digest());
        assert_eq!((composition.alpha(), composition.record()), (Some(alpha), None));
        // In a file of tables, too.
        let tables = TableFile::parse(include_str!("../../minimax-coeffs/tables/published.json")).unwrap();
        let table = tables.relu(alpha.bits()).unwrap();
        assert!(Arc::ptr_eq(composition, &Composition::from_table(table).unwrap()));
        let same = all.iter().filter(|other| other.digest() == composition.digest());
        assert_eq!(same.count(), 1, "{alpha}");
    }
}

#[test]
fn what_a_policy_claims_of_its_polynomials_is_checked() {
    let good = serde_json::to_value(mixed()).unwrap();
    let digest = generated(9).digest().to_owned();
    let table = format!("/compositions/{digest}");
    let changed = |pointer: &str, value: Value| {
        let mut policy = good.clone();
        *policy.pointer_mut(pointer).unwrap() = value;
        read(&policy).unwrap_err()
    };
    let coefficient =
        good.pointer(&format!("{table}/coefficients/0/0")).unwrap().as_str().unwrap().to_owned();
    // In the last of its 17 decimal places that matter: other polynomials of the same error.
    let moved = format!("{:.16}", coefficient.parse::<f64>().unwrap().next_up());
    let claimed = good.pointer(&format!("{table}/relu_error")).unwrap().as_f64().unwrap();
    let at = |field: &str| format!("{table}/{field}");
    for (pointer, value, parts) in [
        (at("coefficients/0/0"), json!(moved), &[digest.as_str(), "the digest of its coefficients is "][..]),
        (at("coefficients/0/0"), json!("1"), &["the claimed error of ReLU is ", "but at -"]),
        (at("coefficients/0/0"), json!("x"), &["component 1: `x` is not a decimal number"]),
        (at("coefficients/0/0"), json!("1e999"), &["component 1: `1e999` is too large"]),
        (at("coefficients/1"), json!([]), &["component 2: degree ", "there are 0"]),
        (at("coefficients"), json!([]), &["there are 2 degrees, but coefficients of 0 components"]),
        (at("degrees/0"), json!(6), &["only odd ones up to 63"]),
        (at("bits"), json!(10), &["but alpha 10 allows 9.765625e-4"]),
        (at("relu_error"), json!(claimed / 2.0), &[&format!("is {:e}, but at -", claimed / 2.0)]),
        (
            at("float32_error"),
            json!(0.5),
            &["alpha 9 needs more than float32, which adds an error of 5.0e-1"],
        ),
        (
            "/sites/relu1/composition".to_owned(),
            json!("c0ffee"),
            &["names the composition c0ffee, but the policy has no"],
        ),
        ("/sites/relu1/alpha".to_owned(), json!(9), &["either an `alpha`", "or a `composition`"]),
        ("/relu/alpha".to_owned(), json!(15), &["whole numbers from 4 to 14"]),
        ("/relu".to_owned(), json!({"method": "minimax", "bound": 1.0}), &["either an `alpha`"]),
        ("/relu/method".to_owned(), json!("magic"), &["magic"]),
        ("/sites".to_owned(), json!([]), &["expected a map"]),
    ] {
        let pointer = pointer.as_str();
        let error = match good.pointer(pointer) {
            Some(_) => changed(pointer, value),
            None => {
                let (parent, field) = pointer.rsplit_once('/').unwrap();
                let mut object = good.pointer(parent).unwrap().clone();
                object[field] = value;
                changed(parent, object)
            }
        };
        for part in parts {
            assert!(error.contains(part), "{pointer}: `{part}` is not in {error}");
        }
    }
}

#[test]
fn a_table_that_float32_cannot_evaluate_or_that_is_not_for_relu_is_refused() {
    let file = TableFile::parse(include_str!("../../minimax-coeffs/tables/eta_1e-6.json")).unwrap();
    let mut table = file.relu(9).unwrap().clone();
    table.target = minimax_coeffs::Target::Sign { precision: 9, epsilon: 0.01 };
    assert!(matches!(Composition::from_table(&table), Err(CompositionError::NotForRelu { .. })));
    for table in &file.tables {
        let suits = table.float32.nested <= table.target.error();
        assert_eq!(Composition::from_table(table).is_ok(), suits, "{}", table.target);
    }
}

#[test]
fn policies_of_version_1_are_read() {
    let mut old = json!({
        "relu": {"method": "minimax", "alpha": 10, "bound": 15.0},
        "max_pool": {"method": "exact"},
        "relu_sites": {"features.2": {"method": "minimax", "alpha": 9, "bound": 0.1}},
        "max_pool_sites": {"features.3": {"method": "minimax", "alpha": 7, "bound": 9.0}},
    });
    // As it is, it is no policy of today, rather than one without exceptions.
    assert!(read(&old).unwrap_err().contains("unknown field `max_pool_sites`"));
    let twice = {
        let mut twice = old.clone();
        twice["max_pool_sites"]["features.2"] = json!({"method": "exact"});
        twice
    };
    v1::upgrade(&mut old).unwrap();
    let at = |bits, bound| SitePolicy::minimax(&Composition::published(Alpha::new(bits).unwrap()), bound);
    let expected = ActivationPolicy::uniform(at(10, 15.0), SitePolicy::Exact)
        .with_site("features.2", at(9, 0.1))
        .with_site("features.3", at(7, 9.0));
    assert_eq!(read(&old).unwrap(), expected);
    for (mut value, part) in [
        (twice, "`features.2` is in `relu_sites` and in `max_pool_sites`"),
        (json!([]), "it is no object"),
        (json!({"relu_sites": 1}), "`relu_sites` is no object"),
        (serde_json::to_value(expected).unwrap(), "it has fields of version 2"),
    ] {
        let error = v1::upgrade(&mut value).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn another_composition_takes_the_place_of_all_and_keeps_the_bounds() {
    let ten = Composition::published(Alpha::new(10).unwrap());
    let policy = mixed();
    assert_eq!(policy.composition(), None);
    let other = policy.clone().with_composition(&ten);
    assert_eq!(other.composition(), Some(&ten));
    assert_eq!(ActivationPolicy::square().with_composition(&ten), ActivationPolicy::square());
    let bounds = |policy: &ActivationPolicy| -> Vec<Option<f64>> {
        let all = [&policy.relu, &policy.max_pool].into_iter().chain(policy.sites.values());
        all.map(|site| site.approximation().map(|(_, bound)| bound)).collect()
    };
    assert_eq!(bounds(&other), bounds(&policy));
}
