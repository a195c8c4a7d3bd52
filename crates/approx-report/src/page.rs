//! The page: HTML that is well-formed XML too, without scripts, and without anything that is fetched.

use std::fmt::{Display, Write};
use std::path::Path;

use approx_eval::sweep::Row;

use crate::data::{NetworkData, SignError, SweepData, standard_error};
use crate::error::Result;
use crate::html::escape;
use crate::picture::Picture;
use crate::{palette, plots};

const CSS: &str = include_str!("page.css");
/// Of the page's own colours; pictures have theirs from the palette.
const DARK: &str = ":root{--paper:#0d1117;--card:#161b22;--ink:#e6edf3;--muted:#9198a1;--edge:#30363d;--good:#3fb950;--bad:#ff7b72}";
/// Relative losses of accuracy that somebody may accept.
const DROPS: [f64; 2] = [0.005, 0.01];
/// What a number that there is not looks like.
const MISSING: &str = "–";

/// Writes the page.
///
/// # Errors
/// [`ReportError`](crate::ReportError).
pub fn write(data: &SweepData, path: &Path) -> Result<()> {
    Ok(atomic_file::write(path, html(data)?.as_bytes())?)
}

/// Writes each picture of the page as an SVG file into `folder`, which must be there.
///
/// # Errors
/// [`ReportError`](crate::ReportError).
pub fn write_plots(data: &SweepData, folder: &Path) -> Result<()> {
    for (name, picture) in plots::all(data)? {
        atomic_file::write(&folder.join(name + ".svg"), picture.file().as_bytes())?;
    }
    Ok(())
}

/// The page.
///
/// # Errors
/// [`ReportError::Drawing`](crate::ReportError::Drawing).
pub fn html(data: &SweepData) -> Result<String> {
    let title = title(data);
    let mut page = String::new();
    let rules = palette::dark_rules();
    put(
        &mut page,
        format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{title}</title>\n\
             <style>\n{CSS}@media (prefers-color-scheme:dark){{{DARK}{rules}}}\n</style>\n</head>\n<body>\n<main>\n\
             <h1>{title}</h1>\n",
        ),
    );
    if data.networks.len() > 1 {
        comparison(&mut page, data)?;
    }
    for network in &data.networks {
        network_section(&mut page, network)?;
    }
    approximations(&mut page, &data.signs)?;
    run(&mut page, data);
    page.push_str("</main>\n</body>\n</html>\n");
    Ok(page)
}

/// Escaped.
fn title(data: &SweepData) -> String {
    match &data.networks[..] {
        [network] => {
            escape(&format!("{} on {} with approximated activations", network.backbone, network.dataset))
        }
        all => {
            let dataset = all.first().map_or(MISSING, |network| &network.dataset);
            escape(&format!("{} networks on {dataset} with approximated activations", all.len()))
        }
    }
}

fn comparison(page: &mut String, data: &SweepData) -> Result<()> {
    page.push_str("<nav>");
    for network in &data.networks {
        let name = escape(&network.backbone);
        put(page, format_args!("<a href=\"#{name}\">{name}</a> "));
    }
    page.push_str("</nav>\n<section id=\"comparison\">\n<h2>Comparison</h2>\n");
    for drop in DROPS {
        let columns = [
            "network",
            "exact",
            "alpha",
            "depth",
            "net depth",
            "net mults",
            "B_relu",
            "B_max",
            "accuracy",
            "relative",
            "agreement",
        ];
        let rows = data.networks.iter().map(|network| {
            let exact = share(network.exact_accuracy());
            let head = [escape(&network.backbone), exact];
            let Some(row) = network.least_depth_within(drop) else {
                let none = std::iter::repeat_n(MISSING.to_owned(), columns.len() - 2);
                return (String::new(), head.into_iter().chain(none).collect::<Vec<_>>());
            };
            let found = [
                row.alpha.to_string(),
                row.relu_depth.to_string(),
                count(row.network_depth),
                thousands(row.network_multiplications.into()),
                bound(row.b_relu),
                bound(row.b_max),
                share(row.accuracy),
                difference(row.relative_difference),
                share(row.agreement),
            ];
            (String::new(), head.into_iter().chain(found).collect())
        });
        put(page, format_args!("<h3>Least depth within {} of the exact accuracy</h3>\n", percent_of(drop)));
        table(page, &columns, 1, rows);
    }
    figures(page, plots::comparison(data)?);
    page.push_str("</section>\n");
    Ok(())
}

fn network_section(page: &mut String, network: &NetworkData) -> Result<()> {
    let name = escape(&network.backbone);
    put(
        page,
        format_args!(
            "<section id=\"{name}\">\n<h2>{name}</h2>\n<p>{} images of {}, weights {}, {}.",
            thousands(network.images() as u64),
            escape(&network.dataset),
            escape(&network.weights.file),
            match &network.policy {
                Some(policy) => format!("a bound for each activation from {}", escape(policy)),
                None => "the smallest B of the grid that holds all values".to_owned(),
            },
        ),
    );
    match network.exact_accuracy() {
        Some(exact) => put(
            page,
            format_args!(" The exact network gets <strong>{}</strong> right.</p>\n", share(Some(exact))),
        ),
        None => page.push_str(" No precision gave a result.</p>\n"),
    }
    advice(page, network);
    figures(page, plots::against_alpha(network)?.into_iter().chain(plots::against_depth(network)?));
    results(page, network);
    noise(page, network)?;
    sites(page, network)?;
    page.push_str("</section>\n");
    Ok(())
}

/// What to take.
fn advice(page: &mut String, network: &NetworkData) {
    let some = DROPS.iter().any(|&drop| network.least_depth_within(drop).is_some());
    put(
        page,
        format_args!(
            "<div class=\"advice{}\">\n<p>Least depth that keeps the accuracy:</p>\n<ul>\n",
            if some { "" } else { " none" }
        ),
    );
    for drop in DROPS {
        put(page, format_args!("<li>within {}: ", percent_of(drop)));
        let Some(row) = network.least_depth_within(drop) else {
            page.push_str("no precision of this sweep</li>\n");
            continue;
        };
        put(page, format_args!("<strong>alpha {}</strong>, {} levels a ReLU", row.alpha, row.relu_depth));
        if let Some(depth) = row.network_depth {
            put(page, format_args!(" ({depth} in all activations)"));
        }
        for (name, b) in [("B_relu", row.b_relu), ("B_max", row.b_max)] {
            if b.is_some() {
                let up_to = if network.policy.is_some() { "up to " } else { "" };
                put(page, format_args!(", {name} {up_to}{}", bound(b)));
            }
        }
        put(
            page,
            format_args!(
                ": {} right ({}), {} agree with the exact network</li>\n",
                share(row.accuracy),
                difference(row.relative_difference),
                share(row.agreement),
            ),
        );
    }
    page.push_str("</ul>\n");
    let chosen = DROPS.iter().filter_map(|&drop| network.least_depth_within(drop));
    if let Some(error) = chosen.filter_map(standard_error).reduce(f64::max) {
        put(
            page,
            format_args!(
                "<p class=\"muted\">With {} images, differences in accuracy have a standard error of up to {:.2} points.</p>\n",
                thousands(network.images() as u64),
                100.0 * error
            ),
        );
    }
    page.push_str("</div>\n");
}

const RESULT_COLUMNS: [&str; 13] = [
    "alpha",
    "degrees",
    "depth",
    "mults",
    "net depth",
    "net mults",
    "B_relu",
    "B_max",
    "accuracy",
    "relative",
    "agreement",
    "logit error",
    "images/s",
];

fn results(page: &mut String, network: &NetworkData) {
    page.push_str("<h3>Results</h3>\n");
    let chosen: Vec<u8> =
        DROPS.iter().filter_map(|&drop| network.least_depth_within(drop)).map(|row| row.alpha).collect();
    let rows = network.rows.iter().map(|row| {
        let class = if chosen.contains(&row.alpha) { " class=\"chosen\"" } else { "" };
        (class.to_owned(), result(row))
    });
    table(page, &RESULT_COLUMNS, 0, rows);
    put(
        page,
        format_args!(
            "<p class=\"muted\">depth, mults: levels and non-scalar multiplications of one ReLU under encryption. net \
             depth, net mults: of all activations, one ciphertext each; linear layers not included. relative: \
             (approximate − exact accuracy) / exact accuracy. agreement: images that both put in the same class.{}</p>\n",
            match network.rows.iter().find_map(|row| row.exact_images_per_second) {
                Some(speed) => format!(" The exact network runs at {speed:.1} images/s."),
                None => String::new(),
            }
        ),
    );
}

/// The cells of a row; the last spans the rest for a precision without results.
fn result(row: &Row) -> Vec<String> {
    let degrees: Vec<String> = row.degrees.iter().map(usize::to_string).collect();
    let mut cells = vec![
        row.alpha.to_string(),
        degrees.join(", "),
        row.relu_depth.to_string(),
        row.relu_multiplications.to_string(),
        count(row.network_depth),
        thousands(row.network_multiplications.into()),
    ];
    match &row.unusable {
        Some(reason) => cells.push(escape(reason)),
        None => {
            cells.extend(quality(row));
            cells.push(row.images_per_second.map_or(MISSING.to_owned(), |speed| format!("{speed:.1}")));
        }
    }
    cells
}

/// Bounds, accuracy, and how near the logits are.
fn quality(row: &Row) -> [String; 6] {
    [
        bound(row.b_relu),
        bound(row.b_max),
        share(row.accuracy),
        difference(row.relative_difference),
        share(row.agreement),
        row.max_abs_logit_difference.map_or("not finite".to_owned(), |error| format!("{error:.3}")),
    ]
}

fn noise(page: &mut String, network: &NetworkData) -> Result<()> {
    if network.noisy.is_empty() {
        return Ok(());
    }
    page.push_str(
        "<h3>Noise</h3>\n<p>The same under the simulated noise of CKKS: each rescaling adds a Gaussian error with a \
         standard deviation of 2<sup>−bits</sup>.</p>\n",
    );
    figures(page, plots::noise(network)?);
    let columns = [
        "alpha",
        "noise bits",
        "B_relu",
        "B_max",
        "accuracy",
        "relative",
        "agreement",
        "logit error",
        "excursions",
    ];
    let rows = network.noisy.iter().map(|row| {
        let bits = row.noise_bits.map_or(MISSING.to_owned(), |bits| ((bits * 1e2).round() / 1e2).to_string());
        let mut cells = vec![row.alpha.to_string(), bits];
        match &row.unusable {
            Some(reason) => cells.push(escape(reason)),
            None => {
                cells.extend(quality(row));
                cells.push(thousands(row.excursions));
            }
        }
        (String::new(), cells)
    });
    table(page, &columns, 0, rows);
    page.push_str(
        "<p class=\"muted\">excursions: outputs of components outside the interval that the next one is made for.</p>\n",
    );
    Ok(())
}

/// What each activation sees.
fn sites(page: &mut String, network: &NetworkData) -> Result<()> {
    let Some(first) = network.sites.first() else { return Ok(()) };
    page.push_str("<h3>Ranges</h3>\n<p>What each activation sees in the exact network");
    match network.bounds_of {
        Some(alpha) => put(page, format_args!(", and in red the bounds for alpha {alpha}.")),
        None => page.push('.'),
    }
    page.push_str(" ReLU is blue, max-pooling orange.</p>\n");
    figures(page, plots::ranges(network)?);
    let alpha = network.bounds_of;
    let near = alpha.map_or(String::new(), |alpha| {
        format!(
            " near 0: inputs with |x| &lt; 2<sup>−{alpha}</sup> · bound, where the sign is least certain."
        )
    });
    page.push_str("<details><summary>The numbers</summary>\n");
    let columns =
        ["activation", "inputs", "min", "0.1 %", "1 %", "50 %", "99 %", "99.9 %", "max", "bound", "near 0"];
    debug_assert_eq!(first.quantiles.len(), 5);
    let rows = network.sites.iter().map(|site| {
        let mut cells = vec![escape(&site.name), thousands(site.count), number(site.min)];
        cells.extend(
            ["0.1", "1", "50", "99", "99.9"]
                .map(|q| site.quantiles.get(q).map_or(MISSING.to_owned(), |&x| number(x))),
        );
        cells.extend([
            number(site.max),
            bound(Some(site.bound).filter(|_| alpha.is_some())),
            share(alpha.and_then(|alpha| site.near_zero.get(&alpha).copied())),
        ]);
        (String::new(), cells)
    });
    table(page, &columns, 1, rows);
    put(
        page,
        format_args!(
            "<p class=\"muted\">Quantiles are within 0.8 % of themselves, extremes are exact.{near}</p>\n</details>\n"
        ),
    );
    Ok(())
}

fn approximations(page: &mut String, signs: &[SignError]) -> Result<()> {
    let Some(picture) = plots::sign_errors(signs)? else { return Ok(()) };
    page.push_str("<section id=\"approximations\">\n<h2>The approximations</h2>\n<p>How far relu<sub>alpha,B</sub>(x) = \
                   x (1 + s<sub>alpha</sub>(x/B)) / 2 is from max(x, 0), in float64: the largest error in each of 240 \
                   intervals.</p>\n");
    figures(page, Some(picture));
    let rows = signs.iter().map(|sign| {
        let degrees: Vec<String> = sign.degrees.iter().map(usize::to_string).collect();
        let cells = vec![
            sign.alpha.to_string(),
            degrees.join(", "),
            sign.depth.to_string(),
            sign.multiplications.to_string(),
            format!("{:.2e}", sign.largest),
            format!("2<sup>{:.2}</sup>", sign.largest.log2()).replace('-', "−"),
        ];
        (String::new(), cells)
    });
    table(page, &["alpha", "degrees", "depth", "mults", "largest error / B", "as a power"], 0, rows);
    page.push_str("</section>\n");
    Ok(())
}

fn run(page: &mut String, data: &SweepData) {
    let machine = &data.machine;
    put(
        page,
        format_args!(
            "<section id=\"run\">\n<h2>How this was made</h2>\n<pre>{}</pre>\n<dl>\n",
            escape(&data.command)
        ),
    );
    let mut entry = |name: &str, value: String| {
        put(page, format_args!("<dt>{name}</dt><dd>{}</dd>\n", escape(&value)));
    };
    entry("processor", machine.cpu.clone());
    entry("system", machine.system.clone());
    entry("threads", machine.threads.to_string());
    entry("vector instructions", machine.simd.clone());
    entry("version", machine.version.clone());
    entry("time", machine.time.clone());
    for network in &data.networks {
        entry("weights", format!("{} (SHA-256 {})", network.weights.file, network.weights.sha256));
    }
    page.push_str("</dl>\n</section>\n");
}

fn figures(page: &mut String, pictures: impl IntoIterator<Item = Picture>) {
    page.push_str("<div class=\"plots\">\n");
    for picture in pictures {
        page.push_str(&picture.inline());
    }
    page.push_str("</div>\n");
}

/// Rows of an attribute and cells, which are HTML. The first `text` columns are not numbers. The last cell of a row with
/// too few is a reason, and spans the rest.
fn table(
    page: &mut String,
    columns: &[&str],
    text: usize,
    rows: impl Iterator<Item = (String, Vec<String>)>,
) {
    let class = |index: usize| if index < text { " class=\"text\"" } else { "" };
    page.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
    for (index, column) in columns.iter().enumerate() {
        put(page, format_args!("<th{}>{column}</th>", class(index)));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (attribute, cells) in rows {
        put(page, format_args!("<tr{attribute}>"));
        let last = cells.len() - 1;
        for (index, cell) in cells.iter().enumerate() {
            match index == last && cells.len() < columns.len() {
                true => put(
                    page,
                    format_args!("<td class=\"text bad\" colspan=\"{}\">{cell}</td>", columns.len() - last),
                ),
                false => put(page, format_args!("<td{}>{cell}</td>", class(index))),
            }
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table></div>\n");
}

fn put(page: &mut String, text: impl Display) {
    write!(page, "{text}").expect("a String takes all");
}

fn share(share: Option<f64>) -> String {
    share.map_or(MISSING.to_owned(), |share| format!("{:.2}\u{a0}%", 100.0 * share))
}

/// With its sign.
fn difference(share: Option<f64>) -> String {
    share.map_or(MISSING.to_owned(), |share| format!("{:+.2}\u{a0}%", 100.0 * share).replace('-', "−"))
}

/// Without needless digits.
fn percent_of(share: f64) -> String {
    format!("{}\u{a0}%", 100.0 * share)
}

fn count(count: Option<u32>) -> String {
    count.map_or(MISSING.to_owned(), |count| thousands(count.into()))
}

/// A bound, to a thousandth.
fn bound(bound: Option<f64>) -> String {
    bound.map_or(MISSING.to_owned(), |bound| ((bound * 1e3).round() / 1e3).to_string())
}

fn number(x: f32) -> String {
    format!("{x:.3}").replace('-', "−")
}

/// With commas.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), expected);
        }
        assert_eq!((share(Some(0.771)), share(None)), ("77.10\u{a0}%".to_owned(), "–".to_owned()));
        assert_eq!(difference(Some(-0.0428)), "−4.28\u{a0}%");
        assert_eq!((percent_of(0.005), percent_of(0.01)), ("0.5\u{a0}%".to_owned(), "1\u{a0}%".to_owned()));
        assert_eq!(bound(Some(12.000_000_1)), "12");
    }
}
