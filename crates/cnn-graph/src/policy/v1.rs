//! Policies of version 1: sites of ReLU and of max-pooling in lists of their own, published polynomials only.

use serde_json::{Map, Value};

use super::PolicyError;

/// Changes a policy of version 1 to what [`ActivationPolicy`](super::ActivationPolicy) is read from.
///
/// # Errors
/// [`PolicyError::Version1`] if a site is in both lists, or the value is no object with lists of sites.
pub fn upgrade(policy: &mut Value) -> Result<(), PolicyError> {
    let error = |reason: String| PolicyError::Version1 { reason };
    let fields = policy.as_object_mut().ok_or_else(|| error("it is no object".to_owned()))?;
    if fields.contains_key("sites") || fields.contains_key("compositions") {
        return Err(error("it has fields of version 2".to_owned()));
    }
    let mut sites = Map::new();
    for list in ["relu_sites", "max_pool_sites"] {
        let Some(of_kind) = fields.remove(list) else { continue };
        let Value::Object(of_kind) = of_kind else { return Err(error(format!("`{list}` is no object"))) };
        for (name, site) in of_kind {
            if sites.insert(name.clone(), site).is_some() {
                return Err(error(format!("`{name}` is in `relu_sites` and in `max_pool_sites`")));
            }
        }
    }
    fields.insert("sites".to_owned(), Value::Object(sites));
    Ok(())
}
