//! What a policy gives on images that had no part in making it.

use anyhow::Result;
use approx_cli::program::print;
use approx_data::Split;
use approx_eval::calibrate::evaluate_policy;
use approx_eval::policy_file::Promise;
use approx_eval::{EvalError, Observer, PolicyFile, exact_pass};
use approx_models::{ActivationPolicy, Network, RunOptions};

use crate::display;
use crate::inputs::{Choice, Selection};

/// Evaluates a policy that was made on training images on the test images, and adds what it gave to its file. A policy that
/// was made on the test images is left alone: there are no others.
pub fn check(
    selection: &Selection,
    choice: &Choice,
    network: &mut Network,
    file: &mut PolicyFile,
    observer: &dyn Observer,
) -> Result<()> {
    if selection.split != Split::Train {
        return Ok(());
    }
    let inputs = Selection { split: Split::Test, ..*selection }.open(std::slice::from_ref(choice))?;
    let job = inputs.job();
    network.set_policy(&ActivationPolicy::exact(), &RunOptions::default())?;
    let exact = exact_pass(&job, network, observer)?;
    match evaluate_policy(&job, &exact, network, &file.policy, &RunOptions::default(), observer) {
        Ok(approx) => {
            let checked = Promise::new(inputs.dataset, Split::Test, &exact, &approx);
            print(&display::checked(&checked))?;
            file.checked = Some(checked);
        }
        Err(EvalError::Range(error)) => {
            observer.pass_finished();
            print(&format!(
                "checked      the test images leave a range: {error}; calibrate on more images or with a larger --headroom\n"
            ))?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
