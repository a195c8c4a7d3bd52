//! A sweep's pictures.

use approx_eval::calibrate::SiteSummary;
use approx_eval::sweep::Row;
use approx_models::SiteKind;

use crate::axis::{Axis, Scale};
use crate::boxes::{self, Distribution};
use crate::data::{NetworkData, SignError, SweepData};
use crate::error::Result;
use crate::palette::Colour;
use crate::picture::Picture;
use crate::xy::{Series, XyPlot};

/// As many boxes as a picture of a readable height has.
const BOXES: usize = 40;

/// All pictures of a sweep, each with the name of its file without the extension.
///
/// # Errors
/// [`ReportError::Drawing`](crate::ReportError::Drawing).
pub fn all(data: &SweepData) -> Result<Vec<(String, Picture)>> {
    let mut pictures = Vec::new();
    if let Some(picture) = comparison(data)? {
        pictures.push(("comparison".to_owned(), picture));
    }
    for network in &data.networks {
        let mut push = |name: &str, picture| pictures.push((format!("{}-{name}", network.backbone), picture));
        for (name, picture) in [
            ("alpha", against_alpha(network)?),
            ("depth", against_depth(network)?),
            ("noise", noise(network)?),
        ] {
            if let Some(picture) = picture {
                push(name, picture);
            }
        }
        let ranges = ranges(network)?;
        let several = ranges.len() > 1;
        for (index, picture) in ranges.into_iter().enumerate() {
            push(&if several { format!("ranges-{}", index + 1) } else { "ranges".to_owned() }, picture);
        }
    }
    if let Some(picture) = sign_errors(&data.signs)? {
        pictures.push(("approximations".to_owned(), picture));
    }
    Ok(pictures)
}

/// Accuracy against alpha, with the exact network's; `None` without results.
///
/// # Errors
/// As [`all`].
pub fn against_alpha(network: &NetworkData) -> Result<Option<Picture>> {
    let points = points(&network.rows, |row| Some(f64::from(row.alpha)));
    let title = format!("{}: accuracy against alpha", network.backbone);
    accuracy(
        network,
        Axis::new("alpha (bits)", Scale::Whole),
        Series::new("approximate", Colour::series(0), points),
        &title,
    )
}

/// Accuracy against the levels of all activations, or of one ReLU where the network has no such number; `None` without
/// results.
///
/// # Errors
/// As [`all`].
pub fn against_depth(network: &NetworkData) -> Result<Option<Picture>> {
    let in_all = network.rows.iter().all(|row| row.network_depth.is_some());
    let depth = |row: &Row| row.network_depth.filter(|_| in_all).unwrap_or(row.relu_depth);
    let axis = if in_all { "levels of all activations" } else { "levels of one ReLU" };
    let points = points(&network.rows, |row| Some(f64::from(depth(row))));
    let labels =
        network.rows.iter().filter(|row| row.accuracy.is_some()).map(|row| format!("α {}", row.alpha));
    let series = Series::new("approximate", Colour::series(0), points).with_labels(labels.collect());
    let title = format!("{}: accuracy against depth", network.backbone);
    accuracy(network, Axis::new(axis, Scale::Whole), series, &title)
}

fn accuracy(network: &NetworkData, x: Axis, series: Series, title: &str) -> Result<Option<Picture>> {
    let Some(exact) = network.exact_accuracy() else { return Ok(None) };
    let plot = XyPlot::new(x, accuracy_axis()).with(series).with_baseline(&exactly(exact), 100.0 * exact);
    plot.draw(title).map(Some)
}

/// Accuracy against the noise, a line for each alpha, with the exact network's; `None` without noise.
///
/// # Errors
/// As [`all`].
pub fn noise(network: &NetworkData) -> Result<Option<Picture>> {
    let results = || network.noisy.iter().filter(|row| row.accuracy.is_some());
    let Some(first) = results().next() else { return Ok(None) };
    let mut alphas: Vec<u8> = results().map(|row| row.alpha).collect();
    alphas.sort_unstable();
    alphas.dedup();
    let mut plot =
        XyPlot::new(Axis::new("noise bits b: a rescaling adds 2⁻ᵇ", Scale::Linear), accuracy_axis());
    for (index, &alpha) in alphas.iter().enumerate() {
        let of_alpha = results().filter(|row| row.alpha == alpha);
        let mut points: Vec<(f64, f64)> =
            of_alpha.filter_map(|row| Some((row.noise_bits?, 100.0 * row.accuracy?))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        plot = plot.with(Series::new(&format!("alpha {alpha}"), Colour::series(index), points));
    }
    if let Some(exact) = first.exact_accuracy {
        plot = plot.with_baseline(&exactly(exact), 100.0 * exact);
    }
    plot.draw(&format!("{}: accuracy with noise", network.backbone)).map(Some)
}

/// Each network's relative difference against alpha; `None` for fewer than two with results.
///
/// # Errors
/// As [`all`].
pub fn comparison(data: &SweepData) -> Result<Option<Picture>> {
    let relative = |row: &Row| Some((f64::from(row.alpha), 100.0 * row.relative_difference?));
    let mut plot = XyPlot::new(
        Axis::new("alpha (bits)", Scale::Whole),
        Axis::new("relative difference of accuracy (%)", Scale::Linear),
    );
    let mut shown = 0;
    for (index, network) in data.networks.iter().enumerate() {
        let points: Vec<_> = network.rows.iter().filter_map(relative).collect();
        if !points.is_empty() {
            shown += 1;
            plot = plot.with(Series::new(&network.backbone, Colour::series(index), points));
        }
    }
    match shown {
        0 | 1 => Ok(None),
        _ => plot.with_baseline("exact", 0.0).draw("All networks: accuracy against alpha").map(Some),
    }
}

/// What the sites saw, as boxes, in as many pictures as it takes.
///
/// # Errors
/// As [`all`].
pub fn ranges(network: &NetworkData) -> Result<Vec<Picture>> {
    let all: Vec<Distribution> = network.sites.iter().map(distribution).collect();
    let largest = boxes::largest(&all);
    // Pictures of nearly the same height.
    let count = all.len().div_ceil(BOXES);
    let each = all.len().div_ceil(count.max(1)).max(1);
    let parts = all.chunks(each).enumerate().map(|(index, part)| {
        let part_of = if count > 1 { format!(" ({} of {count})", index + 1) } else { String::new() };
        boxes::draw(&format!("{}: inputs of the activations{part_of}", network.backbone), part, largest)
    });
    parts.collect()
}

fn distribution(site: &SiteSummary) -> Distribution {
    let quantile = |name: &str| site.quantiles.get(name).map_or(f64::NAN, |&q| f64::from(q));
    Distribution {
        name: site.name.clone(),
        colour: Colour::series(match site.kind {
            SiteKind::Relu => 0,
            SiteKind::MaxPool => 1,
        }),
        min: site.min.into(),
        quantiles: ["0.1", "1", "50", "99", "99.9"].map(quantile),
        max: site.max.into(),
        bound: Some(site.bound).filter(|&bound| bound > 0.0),
    }
}

/// The error of each approximation of ReLU; `None` for no approximation.
///
/// # Errors
/// As [`all`].
pub fn sign_errors(signs: &[SignError]) -> Result<Option<Picture>> {
    if signs.is_empty() {
        return Ok(None);
    }
    let mut plot = XyPlot::new(
        Axis::new("x / B", Scale::Linear).with_range(-1.0, 1.0),
        Axis::new("error of ReLU / B", Scale::Log10),
    );
    for (index, sign) in signs.iter().enumerate() {
        let series = Series::new(&format!("alpha {}", sign.alpha), Colour::series(index), sign.curve.clone());
        plot = plot.with(series.without_marks());
    }
    plot.draw("Error of the approximated ReLU").map(Some)
}

/// Where and how accurate, in percent.
fn points(rows: &[Row], x: impl Fn(&Row) -> Option<f64>) -> Vec<(f64, f64)> {
    rows.iter().filter_map(|row| Some((x(row)?, 100.0 * row.accuracy?))).collect()
}

fn accuracy_axis() -> Axis {
    Axis::new("accuracy (%)", Scale::Linear)
}

fn exactly(accuracy: f64) -> String {
    format!("exact, {:.2} %", 100.0 * accuracy)
}
