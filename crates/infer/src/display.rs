//! Results as text.

use std::collections::BTreeSet;
use std::fmt::Write;

use approx_eval::candidates::Candidate;
use approx_eval::policy_file::Promise;
use approx_eval::report::{Approximations, NoiseResult, SiteResult};
use approx_eval::sweep::{Point, PointResult};
use approx_eval::tune::Tuned;
use approx_eval::{PolicyFile, Report, SiteExcursions};
use approx_models::{Network, SiteKind};

use crate::run::Subjects;

/// The line before the work.
pub fn subject(subjects: &Subjects) -> String {
    let (name, dataset) = (&subjects.name, subjects.dataset);
    format!("{name} on {dataset}: {} images, {}\n", subjects.job.images.len(), subjects.weights.file)
}

/// All results of one run.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    let mut line =
        |name: &str, value: String| writeln!(text, "{name:13}{value}").expect("a String takes all");
    let (exact, approx) = (&report.exact, &report.approx);
    line("exact", format!("{}  {}", percent(exact.accuracy), speed(exact.images_per_second)));
    line("approximate", format!("{}  {}", percent(approx.accuracy), speed(approx.images_per_second)));
    if let Some(difference) = report.relative_difference {
        line("difference", format!("{:+8.2} % relative to the exact accuracy", 100.0 * difference));
    }
    line("agreement", format!("{}  of the images get the exact network's class", percent(approx.agreement)));
    line(
        "logits",
        match approx.max_abs_logit_difference {
            Some(difference) => format!("differ by at most {difference:.3}"),
            None => format!(
                "are not finite for {} of {} images: the values overflow, which counts as wrong",
                approx.non_finite_images, report.images
            ),
        },
    );
    match (report.alpha, report.degrees.as_ref(), report.depth, report.non_scalar_multiplications) {
        (Some(alpha), Some(degrees), Some(depth), Some(multiplications)) => {
            let degrees: Vec<String> = degrees.iter().map(usize::to_string).collect();
            let policy = if report.method == "policy" { "policy: " } else { "" };
            line(
                "method",
                format!("{policy}minimax composition, alpha {alpha}, degrees {}", degrees.join(", ")),
            );
            line("cost", format!("{depth} levels and {multiplications} non-scalar multiplications a ReLU"));
        }
        _ => line("method", precisions(report)),
    }
    if let (Some(depth), Some(multiplications)) = (report.net_depth, report.net_mults) {
        line(
            "network",
            format!("{depth} levels and {multiplications} non-scalar multiplications, all activations"),
        );
    }
    for (kind, name, bound) in
        [(SiteKind::Relu, "B_relu", report.b_relu), (SiteKind::MaxPool, "B_max", report.b_max)]
    {
        if let Some(range) = range(report, kind, bound) {
            line(name, range);
        }
    }
    if let Some(noise) = &report.noise {
        line("noise", format!("simulated: 2^-{:.2} a rescaling, seed {}", noise.bits, noise.seed));
        if let Some(excursions) = excursions(noise) {
            line("warning", excursions);
        }
    }
    if let (Some(exact), Some(approx)) = (exact.peak_memory_bytes, approx.peak_memory_bytes) {
        line("memory", format!("{}; exactly {} (peak, resident)", mebibytes(approx), mebibytes(exact)));
    }
    if let Some(first) = report.skipped.first() {
        let images = if report.skipped.len() == 1 { "image" } else { "images" };
        let count = report.skipped.len();
        line("skipped", format!("{count} corrupt {images}; the first is {}: {}", first.name, first.reason));
    }
    text
}

/// The method, with the precisions of a policy that has several.
fn precisions(report: &Report) -> String {
    let of_kind = |approximations: &Approximations| {
        let Approximations { kind, sites, alpha, degree, .. } = approximations;
        let (kind, s) = (
            if *kind == SiteKind::Relu { "ReLU" } else { "max-pooling" },
            if *sites == 1 { "" } else { "s" },
        );
        let what = match (alpha, degree) {
            (_, Some(degree)) => format!("fitted, degree {}", span(*degree, usize::to_string)),
            (alpha, None) => format!("alpha {}", alpha.map_or_else(String::new, |a| span(a, u8::to_string))),
        };
        format!("{what} for {sites} {kind}{s}")
    };
    let kinds: Vec<String> = report.approximations.iter().map(of_kind).collect();
    match kinds.is_empty() {
        true => report.method.clone(),
        false => format!("{}: {}", report.method, kinds.join(", ")),
    }
}

/// The smallest and the largest of some values, or the one that all are.
fn span<T: PartialEq>([least, most]: [T; 2], show: impl Fn(&T) -> String) -> String {
    match least == most {
        true => show(&least),
        false => format!("{} to {}", show(&least), show(&most)),
    }
}

/// What left the domains of components, told by the worst of it; `None` if nothing did.
fn excursions(noise: &NoiseResult) -> Option<String> {
    let beyond = |e: &SiteExcursions| e.largest / e.domain;
    let worst = noise.excursions.iter().max_by(|a, b| beyond(a).total_cmp(&beyond(b)))?;
    let count: u64 = noise.excursions.iter().map(|e| e.count).sum();
    let sites = noise.excursions.iter().map(|e| e.site.as_str()).collect::<BTreeSet<_>>().len();
    let s = if sites == 1 { "" } else { "s" };
    Some(format!(
        "{count} outputs of components left the next one's domain, at {sites} activation{s}; worst at {}: component {} \
         gave {:.6}, the domain ends at {:.6}",
        worst.site, worst.component, worst.largest, worst.domain
    ))
}

/// The bound and the largest |x| of a kind of activation, if the network has it.
fn range(report: &Report, kind: SiteKind, bound: Option<f64>) -> Option<String> {
    let sites = || report.sites.iter().filter(|site| site.kind == kind);
    // Where an overflow begins, if there is one.
    let largest = |value: fn(&SiteResult) -> f32| {
        let overflow = sites().find(|site| !value(site).is_finite());
        overflow.or_else(|| sites().max_by(|a, b| value(a).total_cmp(&value(b))))
    };
    let exact = largest(|site| site.max_abs)?;
    let approx = largest(|site| site.approx_max_abs)?;
    let approximations = report.approximations.iter().find(|approximations| approximations.kind == kind);
    let mut text = match (bound, approximations) {
        (Some(_), Some(approximations)) if report.method == "policy" => {
            format!("by site, {}", span(approximations.bound, |bound| number(*bound)))
        }
        (Some(bound), Some(_)) => {
            let passes = if report.approx.passes == 1 { "pass" } else { "passes" };
            format!("{}, found in {} {passes}", number(bound), report.approx.passes)
        }
        _ => "not limited".to_owned(),
    };
    write!(
        text,
        "; largest |x| {:.2} at {}, exactly {:.2} at {}",
        approx.approx_max_abs, approx.name, exact.max_abs, exact.name
    )
    .expect("a String takes all");
    // The error grows with B, so more than is needed is accuracy given away.
    let enough = f64::from(exact.max_abs.max(approx.approx_max_abs) / 5.0).ceil() * 5.0;
    if report.method != "policy" && bound.is_some_and(|bound| enough > 0.0 && enough <= bound / 1.5) {
        let option = if kind == SiteKind::Relu { "--b-relu" } else { "--b-max" };
        write!(text, "; a smaller B is more exact: try {option} {enough}").expect("a String takes all");
    }
    Some(text)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A bound without the digits that only float64 has.
fn number(bound: f64) -> String {
    (bound as f32).to_string()
}

fn percent(share: f64) -> String {
    format!("{:8.2} %", 100.0 * share)
}

fn speed(images_per_second: f64) -> String {
    format!("{images_per_second:8.1} images/s")
}

/// The exact network and the table's columns.
pub fn table_header(report: &Report) -> String {
    let exact = format!(
        "exact accuracy {}, {}",
        percent(report.exact.accuracy).trim(),
        speed(report.exact.images_per_second).trim()
    );
    let columns = "alpha  degrees      depth  mults  B_relu  accuracy  agreement  logit error  images/s";
    format!("{exact}\n\n{columns}\n")
}

/// One precision.
pub fn table_row(report: &Report) -> String {
    let count = |value: Option<u32>| value.map_or_else(String::new, |value| value.to_string());
    let degrees: Vec<String> = report.degrees.iter().flatten().map(usize::to_string).collect();
    format!(
        "{:>5}  {:11}  {:>5}  {:>5}  {:>6}  {:>6.2} %  {:>7.2} %  {:>11.3}  {:>8.1}\n",
        report.alpha.map_or_else(String::new, |alpha| alpha.to_string()),
        degrees.join(", "),
        count(report.depth),
        count(report.non_scalar_multiplications),
        report.b_relu.map_or_else(String::new, number),
        100.0 * report.approx.accuracy,
        100.0 * report.approx.agreement,
        report.approx.max_abs_logit_difference.unwrap_or(f32::NAN),
        report.approx.images_per_second,
    )
}

/// What the columns mean.
pub fn table_footer() -> &'static str {
    "\ndepth, mults: levels and non-scalar multiplications of one ReLU under encryption\n\
     agreement: images that get the same class as from the exact network\n"
}

/// What each site saw, and what the policy gives.
pub fn policy(file: &PolicyFile, alpha: u8) -> String {
    let width = file.sites.iter().map(|site| site.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!(
        "\n{:width$}        min     0.1 %       1 %      50 %      99 %    99.9 %       max     bound  near 0\n",
        "site"
    );
    for site in &file.sites {
        let quantiles = ["0.1", "1", "50", "99", "99.9"].map(|name| site.quantiles[name]);
        let numbers = [&[site.min], &quantiles[..], &[site.max]].concat();
        let numbers: String = numbers.iter().map(|x| format!("  {x:>8.3}")).collect();
        let near = 100.0 * site.near_zero[&alpha];
        writeln!(text, "{:width$}{numbers}  {:>8.3}  {near:>4.2} %", site.name, site.bound)
            .expect("a String takes all");
    }
    let promise = &file.promise;
    let difference = promise.max_abs_logit_difference.map_or("not finite".to_owned(), |d| format!("{d:.3}"));
    text + &format!(
        "\nnear 0: inputs with |x| < 2^-{alpha} · bound\n\nexact {}, with the policy {}; agreement {}; logit error \
         {difference}\n",
        percent(promise.exact_accuracy).trim(),
        percent(promise.accuracy).trim(),
        percent(promise.agreement).trim(),
    )
}

/// The least and the largest of some numbers, as `7..14`.
fn first_to_last(numbers: impl Iterator<Item = usize> + Clone) -> String {
    match (numbers.clone().min(), numbers.max()) {
        (Some(least), Some(most)) if least < most => format!("{least}..{most}"),
        (Some(number), _) => number.to_string(),
        _ => String::new(),
    }
}

/// What a tuning evaluated and chose.
pub fn tuned(found: &Tuned, network: &Network) -> String {
    let mut text =
        String::from("\nnet depth  net mults   alpha   degree  accuracy  relative  agreement  logit error\n");
    for point in &found.points {
        let alphas = point.sites.iter().filter_map(|candidate| match candidate {
            Candidate::Composition(composition) => Some(usize::from(composition.bits())),
            Candidate::Fitted { .. } => None,
        });
        let degrees = point.sites.iter().filter_map(|candidate| match candidate {
            Candidate::Composition(_) => None,
            Candidate::Fitted { degree } => Some(*degree),
        });
        let (alphas, degrees) = (first_to_last(alphas), first_to_last(degrees));
        let results = point.result.as_ref().map_or_else(
            || "  values leave every range".to_owned(),
            |result| {
                format!(
                    "  {:>6.2} %  {:>+6.2} %  {:>7.2} %  {:>11.3}",
                    100.0 * result.accuracy,
                    100.0 * result.relative_difference,
                    100.0 * result.agreement,
                    result.max_abs_logit_difference.unwrap_or(f32::NAN),
                )
            },
        );
        let mark = match (point.chosen, point.on_front) {
            (true, _) => "  chosen",
            (false, true) => "  front",
            (false, false) => "",
        };
        writeln!(
            text,
            "{:>9}  {:>9}  {alphas:>6}  {degrees:>7}{results}{mark}",
            point.levels, point.multiplications
        )
        .expect("a String takes all");
    }
    let chosen = found.points.iter().find(|point| point.chosen).map_or(&[][..], |point| &point.sites);
    let width = network.sites().iter().map(|site| site.name().len()).max().unwrap_or(0).max(4);
    writeln!(text, "\n{:width$}  {:9}       low      high", "site", "by").expect("a String takes all");
    for (site, candidate) in network.sites().iter().zip(chosen) {
        let (center, bound) = (site.center(), site.bound().unwrap_or(f64::NAN));
        let (by, low, high) = (candidate.to_string(), center - bound, center + bound);
        writeln!(text, "{:width$}  {by:9}  {low:>8.3}  {high:>8.3}", site.name())
            .expect("a String takes all");
    }
    text + "\nby: alpha of a composition, or degree of a fitted polynomial, from low to high\nfront: no other point is as cheap and as accurate, and better in one of the two\n"
}

/// What a policy gave on images that had no part in making it.
pub fn checked(promise: &Promise) -> String {
    let Promise { images, exact_accuracy, accuracy, agreement, chance, .. } = promise;
    format!(
        "checked      on {images} test images: exact {}, with the policy {} ({:+.2} % relative, ±{:.2} % by chance); \
         agreement {}\n",
        percent(*exact_accuracy).trim(),
        percent(*accuracy).trim(),
        100.0 * (accuracy - exact_accuracy) / exact_accuracy,
        100.0 * chance.unwrap_or_default() / exact_accuracy,
        percent(*agreement).trim(),
    )
}

/// The columns of `infer sweep`.
pub fn sweep_header(noisy: bool) -> String {
    let noise = if noisy { "  noise" } else { "" };
    format!(
        "\nalpha{noise}  degrees      depth  mults  net depth  net mults  B_relu  B_max    exact  accuracy  relative  \
         agreement  logit error  images/s\n"
    )
}

/// One precision of a network.
pub fn sweep_row(point: &Point, noisy: bool) -> String {
    let row = &point.row;
    let noise = match row.noise_bits {
        _ if !noisy => String::new(),
        None => "   none".to_owned(),
        Some(bits) => format!("  {:>5}", format!("2^-{}", (bits * 100.0).round() / 100.0)),
    };
    let degrees: Vec<String> = row.degrees.iter().map(usize::to_string).collect();
    let mut text = format!(
        "{:>5}{noise}  {:11}  {:>5}  {:>5}  {:>9}  {:>9}",
        row.alpha,
        degrees.join(", "),
        row.relu_depth,
        row.relu_multiplications,
        row.network_depth.map_or_else(|| "-".to_owned(), |depth| depth.to_string()),
        row.network_multiplications,
    );
    if let Some(reason) = &row.unusable {
        return text + &format!("  {reason}\n");
    }
    // A policy's bounds have more digits than a table has room for.
    let bound =
        |bound: Option<f64>| bound.map_or_else(|| "-".to_owned(), |b| number((b * 1e3).round() / 1e3));
    let share = |share: Option<f64>| 100.0 * share.unwrap_or(f64::NAN);
    write!(
        text,
        "  {:>6}  {:>5}  {:>5.2} %  {:>6.2} %  {:>+6.2} %  {:>7.2} %  {:>11.3}  {:>8.1}{}",
        bound(row.b_relu),
        bound(row.b_max),
        share(row.exact_accuracy),
        share(row.accuracy),
        share(row.relative_difference),
        share(row.agreement),
        row.max_abs_logit_difference.unwrap_or(f32::NAN),
        row.images_per_second.unwrap_or(f64::NAN),
        if point.kept { "  kept" } else { "" },
    )
    .expect("a String takes all");
    if let PointResult::Report(report) = &point.result
        && let Some(excursions) = report.noise.as_ref().and_then(excursions)
    {
        write!(text, "  warning: {excursions}").expect("a String takes all");
    }
    text + "\n"
}

/// What the columns mean.
pub fn sweep_footer() -> &'static str {
    "\ndepth, mults: levels and non-scalar multiplications of one ReLU under encryption\n\
     net depth, net mults: of all activations, one ciphertext each; linear layers not included\n\
     agreement: images that get the same class as from the exact network; kept: from an earlier run\n"
}
