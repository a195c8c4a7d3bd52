//! `cargo xtask coefficients`: tables of minimax polynomials, and the committed files that hold some.

use std::fs;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use minimax_coeffs::certificate::{CertificateError, certify};
use minimax_coeffs::compose::{PUBLISHED_ETA, PUBLISHED_FACTORS};
use minimax_coeffs::export::Format;
use minimax_coeffs::generate::WORKING_DIGITS;
use minimax_coeffs::table_file::Record;
use minimax_coeffs::{Alpha, CompositeSign, Generated, Target, schedule};

use crate::{default_root, plot};

/// The margin of the committed tables.
const COMMITTED_ETA: f64 = 1e-6;
/// Their precisions.
const COMMITTED_ALPHAS: RangeInclusive<u8> = 4..=20;
/// The margin of the committed tables for much noise.
const ROOMY_ETA: f64 = 2e-2;
/// Their precisions.
const ROOMY_ALPHAS: RangeInclusive<u8> = 4..=14;
/// The largest degree that is searched by default, and the one of the committed tables.
const MAX_DEGREE: usize = 31;

/// The depth of a composition goes first: of all degrees that reach the precision, those of least depth are taken,
/// and of these the ones with the fewest non-scalar multiplications (ePrint 2020/834). Proven bounds are told on
/// standard error, tables are written to standard output or to a file.
#[derive(Args)]
pub struct Arguments {
    /// Precision of ReLU in bits: |relu(x) - max(x, 0)| <= 2^-alpha for |x| <= 1. A number or a range
    #[arg(long, value_name = "BITS|FIRST-LAST", conflicts_with_all = ["precision", "epsilon"])]
    alpha: Option<Alphas>,
    /// Precision of the sign in bits instead: |s(x) - sign(x)| <= 2^-precision for epsilon <= |x| <= 1
    #[arg(long, value_name = "BITS", requires = "epsilon")]
    precision: Option<u8>,
    /// The smallest |x| of --precision
    #[arg(long, value_name = "EPSILON", requires = "precision", allow_negative_numbers = true)]
    epsilon: Option<f64>,
    /// Degrees of the components in order of application [default: the cheapest ones that reach the precision]
    #[arg(long, value_name = "D_1,D_2,...", value_delimiter = ',')]
    degrees: Option<Vec<usize>>,
    /// The largest degree to consider, 3 to 63
    #[arg(long, value_name = "DEGREE", default_value_t = MAX_DEGREE, conflicts_with = "degrees")]
    max_degree: usize,
    /// By how much a component's output may be off (noise, rounding) without leaving the next one's interval
    #[arg(long, value_name = "ETA", default_value_t = COMMITTED_ETA, allow_negative_numbers = true)]
    eta: f64,
    /// Decimal digits to compute with
    #[arg(long, value_name = "N", default_value_t = WORKING_DIGITS, value_parser = clap::value_parser!(u32).range(20..=1000))]
    digits: u32,
    /// The table that the authors published for --alpha, by their rule (degrees, first interval and margin)
    #[arg(long, requires = "alpha", conflicts_with_all = ["degrees", "max_degree", "eta"])]
    published: bool,
    /// json, openfhe, lattigo, heir, poulpy, numpy or desilo
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    format: Format,
    /// Write to this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write nothing, and fail if --output, or else one of the committed files, is not what would be written
    #[arg(long)]
    check: bool,
    /// Write all committed files: tables, exports and plots
    #[arg(long, conflicts_with_all = ["alpha", "precision", "output", "check", "published", "degrees"])]
    update: bool,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        if self.update || (self.check && self.alpha.is_none() && self.precision.is_none()) {
            return committed(self.check);
        }
        let tables =
            self.targets()?.into_iter().map(|target| self.table(target)).collect::<Result<Vec<_>>>()?;
        let text = self.format.render(&tables)?;
        match (&self.output, self.check) {
            (Some(path), true) => {
                if !is_current(path, &text)? {
                    bail!("{} is stale", path.display());
                }
                eprintln!("{} is current", path.display());
            }
            (None, true) => bail!("--check needs --output for a table of one's own"),
            (Some(path), false) => write_with_folder(path, &text)?,
            (None, false) => std::io::stdout().write_all(text.as_bytes())?,
        }
        Ok(())
    }

    fn targets(&self) -> Result<Vec<Target>> {
        match (&self.alpha, self.precision, self.epsilon) {
            (Some(Alphas(alphas)), ..) => Ok(alphas.iter().map(|&alpha| Target::Relu { alpha }).collect()),
            (None, Some(precision), Some(epsilon)) => Ok(vec![Target::Sign { precision, epsilon }]),
            _ => bail!("say how precise: --alpha BITS, or --precision BITS --epsilon EPSILON"),
        }
    }

    fn table(&self, target: Target) -> Result<Record> {
        let generated = match (self.published, &self.degrees) {
            (true, _) => Generated::published(Alpha::new(target.bits())?)?,
            (false, Some(degrees)) => Generated::with_digits(target, degrees, self.eta, self.digits)?,
            (false, None) => {
                let degrees = schedule::search(target, self.max_degree, self.eta)?.degrees;
                Generated::with_digits(target, &degrees, self.eta, self.digits)?
            }
        };
        let record = generated.record()?;
        eprintln!("{}", summary(&record));
        Ok(record)
    }
}

/// What is proven of a table, in a few lines.
fn summary(table: &Record) -> String {
    let mut text = format!(
        "{}: degrees {}, depth {}, {} non-scalar multiplications; ReLU {} and {}",
        table.target,
        list(&table.degrees),
        table.cost.depth,
        table.cost.non_scalar_multiplications,
        table.relu_cost.depth,
        table.relu_cost.non_scalar_multiplications
    );
    let start = table.components[0].interval[0];
    text += &format!("\n  first interval from {start:.6e}");
    if let Target::Relu { .. } = table.target {
        let factor = start / table.target.error();
        text += &format!(" = {factor:.3} * 2^-{}", table.target.bits());
    }
    for certificate in &table.certificates {
        let (name, error) = match table.target {
            Target::Relu { .. } => ("ReLU", certificate.relu_error),
            Target::Sign { .. } => ("sign", certificate.sign_error),
        };
        let verdict = if error <= table.target.error() { "certified" } else { "misses the target" };
        let disturbed = match certificate.delta {
            0.0 => String::new(),
            delta => format!(", outputs disturbed by {delta:e}"),
        };
        text += &format!("\n  {name} within {error:.5e} = 2^{:.3}{disturbed}: {verdict}", error.log2());
    }
    let float32 = table.float32;
    text += &format!(
        "\n  float32 adds {:.1e} (Chebyshev) or {:.1e} (nested), measured",
        float32.chebyshev, float32.nested
    );
    text
}

/// A number of bits, or all from one to another.
#[derive(Clone)]
struct Alphas(Vec<u8>);

impl FromStr for Alphas {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let bits =
            |text: &str| text.parse::<u8>().map_err(|_| format!("`{text}` is not a whole number of bits"));
        let (first, last) = (bits(first)?, bits(last)?);
        if first > last {
            return Err(format!("the range {text} is empty"));
        }
        Ok(Self((first..=last).collect()))
    }
}

/// Writes the committed files, or fails where one is stale.
fn committed(check: bool) -> Result<()> {
    let root = default_root()?;
    let mut stale = Vec::new();
    for (path, text) in committed_files()? {
        let place = root.join(&path);
        if is_current(&place, &text)? {
            println!("current: {path}");
        } else if check {
            stale.push(path);
        } else {
            write_with_folder(&place, &text)?;
            println!("written: {path}");
        }
    }
    if !stale.is_empty() {
        bail!("stale: {}\n\ncargo xtask coefficients --update writes them anew", stale.join(", "));
    }
    Ok(())
}

/// The committed files by their path in the repository.
fn committed_files() -> Result<Vec<(String, String)>> {
    let published =
        Alpha::all().map(|alpha| Ok(Generated::published(alpha)?.record()?)).collect::<Result<Vec<_>>>()?;
    let generate = |alphas: RangeInclusive<u8>, eta: f64| {
        let record = |alpha| {
            let target = Target::Relu { alpha };
            let degrees = schedule::search(target, MAX_DEGREE, eta)?.degrees;
            Ok(CompositeSign::generate(target, &degrees, eta)?.record()?)
        };
        alphas.map(record).collect::<Result<Vec<_>>>()
    };
    let (generated, roomy) = (generate(COMMITTED_ALPHAS, COMMITTED_ETA)?, generate(ROOMY_ALPHAS, ROOMY_ETA)?);
    let of = |tables: &[Record], alpha: u8| -> Result<Record> {
        let found = tables.iter().find(|table| table.target.bits() == alpha).cloned();
        found.with_context(|| format!("no table for alpha {alpha}"))
    };
    let mut files = vec![
        ("crates/minimax-coeffs/tables/published.json".to_owned(), Format::Json.render(&published)?),
        ("crates/minimax-coeffs/tables/eta_1e-6.json".to_owned(), Format::Json.render(&generated)?),
        ("crates/minimax-coeffs/tables/eta_2e-2.json".to_owned(), Format::Json.render(&roomy)?),
        (
            "docs/coefficients/tables.md".to_owned(),
            markdown(&published, &generated)? + &noise(&of(&published, 14)?)?,
        ),
    ];
    for alpha in [7, 9, 10, 14] {
        let text = Format::Desilo.render(&[of(&published, alpha)?])?;
        files.push((format!("benchmarks/tables/published_{alpha:02}.py"), text));
    }
    let fourteen = of(&generated, 14)?;
    let text = Format::Desilo.render(std::slice::from_ref(&fourteen))?;
    files.push(("benchmarks/tables/eta_1e_6_14.py".to_owned(), text));
    files.push(("docs/coefficients/sign_14.svg".to_owned(), plot::composition(&fourteen)?));
    files.push(("docs/coefficients/error_14.svg".to_owned(), plot::equioscillation(&fourteen)?));
    Ok(files)
}

/// The published tables beside the generated ones.
fn markdown(published: &[Record], generated: &[Record]) -> Result<String> {
    let mut text = String::from(
        "# Proven errors of the tables\n\n\
         Written by `cargo xtask coefficients --update`. Errors are those of ReLU on [-1, 1], proven\n\
         ([how](../coefficients.md#certificates)); \"disturbed\" means that each component's output is off by up to the\n\
         margin of the table. Depth and multiplications are those of one ReLU.\n\n\
         ## Published\n\nMargin 2^-22; the first interval is [f · 2^-alpha, 1], for alpha 4 and 5 [f · 2^-alpha, 2].\n\n",
    );
    let head = "| alpha | degrees | depth | mult. | f | error | disturbed | keeps 2^-alpha |\n|---|---|---|---|---|---|---|---|\n";
    let row = |table: &Record, factor: String| {
        let bound = |i: usize| format!("2^{:.3}", table.certificates[i].relu_error.log2());
        let keeps = |i: usize| table.certificates[i].relu_error <= table.target.error();
        let verdict = match (keeps(0), keeps(1)) {
            (true, true) => "yes, disturbed too",
            (true, false) => "yes",
            (false, _) => "**no**",
        };
        format!(
            "| {} | {} | {} | {} | {factor} | {} | {} | {verdict} |\n",
            table.target.bits(),
            list(&table.degrees),
            table.relu_cost.depth,
            table.relu_cost.non_scalar_multiplications,
            bound(0),
            bound(1),
        )
    };
    text += head;
    for (table, factor) in published.iter().zip(PUBLISHED_FACTORS) {
        text += &row(table, factor.to_string());
    }
    text += &format!(
        "\n## Generated\n\nMargin {COMMITTED_ETA:e}, degrees up to {MAX_DEGREE}, the factor f searched for. \"Gain\" is by how much \
         f alone makes the\nerror smaller, in bits, where the published degrees are the same.\n\n"
    );
    text += &head
        .replace("| keeps 2^-alpha |\n", "| gain | float32 adds | keeps 2^-alpha |\n")
        .replace("|---|\n", "|---|---|---|\n");
    for table in generated {
        let factor = table.components[0].interval[0] / table.target.error();
        let same = published.iter().find(|p| p.target == table.target && p.degrees == table.degrees);
        let gain = same.map_or("–".to_owned(), |p| {
            format!("{:.3}", (p.certificates[0].relu_error / table.certificates[0].relu_error).log2())
        });
        let line = row(table, format!("{factor:.3}"));
        let (start, verdict) = line.trim_end_matches(" |\n").rsplit_once("| ").unwrap_or((&line, ""));
        text += &format!("{start}| {gain} | {:.1e} | {verdict} |\n", table.float32.nested);
    }
    text += &format!(
        "\nThe published margin is 2^-22 = {PUBLISHED_ETA:.1e}. \"float32 adds\" is measured, with the nested form that the ops use.\n"
    );
    Ok(text)
}

/// What a disturbance does to alpha 14, with the published margin and with larger ones.
fn noise(published: &Record) -> Result<String> {
    const ETAS: [f64; 3] = [1e-6, 1e-5, 1e-4];
    const DELTAS: [f64; 6] = [0.0, PUBLISHED_ETA, 1e-6, 1e-5, 1e-4, 1e-3];
    let mut text = format!(
        "\n## Noise\n\nThe proven error of ReLU with degrees {}, where each component's output is off by up to delta, for the published\n\
         table and for generated ones with larger margins eta.\n\n| delta | published, eta = 2^-22 |",
        list(&published.degrees)
    );
    let mut compositions = vec![(published.composite(), published.components[0].interval[0])];
    for eta in ETAS {
        text += &format!(" eta = {eta:e} |");
        let generated = CompositeSign::generate(published.target, &published.degrees, eta)?;
        compositions.push((Ok(generated.composite()), generated.components[0].interval[0]));
    }
    text += "\n|---|---|---|---|---|\n";
    for delta in DELTAS {
        text += &match delta {
            PUBLISHED_ETA => "| 2^-22 |".to_owned(),
            0.0 => "| 0 |".to_owned(),
            delta => format!("| {delta:e} |"),
        };
        for (sign, start) in &compositions {
            let sign = sign.as_ref().map_err(|reason| anyhow!("{reason}"))?;
            text += &match certify(sign, *start, delta) {
                Ok(proven) => format!(" {:.2e} = 2^{:.2} |", proven.relu_error, proven.relu_error.log2()),
                Err(CertificateError::SignLost { .. }) => " the sign is lost |".to_owned(),
                Err(error) => return Err(error.into()),
            };
        }
        text += "\n";
    }
    Ok(text)
}

fn list(degrees: &[usize]) -> String {
    degrees.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn is_current(path: &Path, text: &str) -> Result<bool> {
    match fs::read_to_string(path) {
        Ok(found) => Ok(found == text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Writes the whole file or nothing, into a folder that is created if it is missing.
fn write_with_folder(path: &Path, text: &str) -> Result<()> {
    let write = || -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(atomic_file::write(path, text.as_bytes())?)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
