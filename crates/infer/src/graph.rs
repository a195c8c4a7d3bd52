//! `infer graph`: a network as a table, a picture or an ONNX file.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use approx_cli::program::print;
use approx_models::{Backbone, Composition, Graph, Weights};
use atomic_file::check_writable;
use candle_core::Device;
use cnn_graph::Node;
use cnn_graph::passes::longest_path;
use minimax_coeffs::{Alpha, SmoothError};

use crate::args::GraphArgs;
use crate::drawing;
use crate::inputs::OnnxNetwork;

/// A network that was asked for.
enum Subject {
    Backbone(Backbone),
    Onnx(OnnxNetwork),
}

/// Prints the network and writes what was asked for.
pub fn graph(args: &GraphArgs) -> Result<()> {
    for path in [&args.dot, &args.svg, &args.onnx].into_iter().flatten() {
        check_writable(path)?;
    }
    let subject = Subject::open(args)?;
    let graph = subject.graph()?;
    let levels = Levels::new(&graph, args);
    print(&table(&graph, &levels))?;
    for (path, text) in [(&args.dot, drawing::dot(&graph)), (&args.svg, drawing::svg(&graph))] {
        if let Some(path) = path {
            write(path, text.as_bytes())?;
        }
    }
    if let Some(path) = &args.onnx {
        let mut file = Vec::new();
        match &subject {
            Subject::Onnx(network) => {
                let read = |name: &str| Ok(network.model().params.read(name)?);
                cnn_onnx::write(&graph, |param| read(&param.name), &mut file)?;
            }
            Subject::Backbone(_) => {
                let Some(params) = &args.params else {
                    bail!("--onnx writes the weights, too: --params FILE names them");
                };
                let weights = Weights::load(params, &Device::Cpu)?;
                cnn_onnx::write(&graph, |param| Ok(weights.values(&param.name, &param.shape)?), &mut file)?;
            }
        }
        write(path, &file)?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    atomic_file::write(path, bytes)?;
    print(&format!("written      {}\n", path.display()))?;
    Ok(())
}

impl Subject {
    fn open(args: &GraphArgs) -> Result<Self> {
        match &args.network[..] {
            [dataset, backbone] => {
                if Backbone::all(dataset).is_empty() {
                    bail!(
                        "`{dataset}` has no backbones; there are some for {}",
                        Backbone::DATASETS.join(", ")
                    );
                }
                let mut backbone = *Backbone::find(dataset, backbone)?;
                if let Some(size) = args.image_size {
                    backbone = backbone.with_image_size([size; 2]);
                }
                Ok(Self::Backbone(args.classes.map_or(backbone, |classes| backbone.with_classes(classes))))
            }
            [dataset] if !Backbone::all(dataset).is_empty() => {
                let names: Vec<&str> = Backbone::all(dataset).iter().map(Backbone::name).collect();
                bail!("which backbone of {dataset}? There are {}", names.join(", "))
            }
            [path] => {
                if args.classes.is_some() {
                    bail!("--classes is for backbones: {path} has a last layer already");
                }
                Ok(Self::Onnx(OnnxNetwork::open(Path::new(path), args.image_size)?))
            }
            _ => unreachable!("clap takes one or two"),
        }
    }

    fn graph(&self) -> Result<Graph> {
        match self {
            Self::Backbone(backbone) => Ok(backbone.graph().context("the image is too small")?),
            Self::Onnx(network) => Ok(network.model().graph.clone()),
        }
    }
}

/// Levels that each node consumes as a site.
struct Levels {
    alpha: Alpha,
    /// Why not, where no polynomial is that near to the function on the range.
    by_node: HashMap<String, Result<u32, SmoothError>>,
}

impl Levels {
    fn new(graph: &Graph, args: &GraphArgs) -> Self {
        let composition = Composition::published(args.alpha);
        let of = |node: &Node| {
            (node.name.clone(), composition.cost_at(&node.op, args.bound).map(|cost| cost.depth))
        };
        Self { alpha: args.alpha, by_node: graph.nodes().iter().map(of).collect() }
    }

    /// `None` where there is no polynomial.
    fn of(&self, node: &Node) -> Option<u32> {
        self.by_node[&node.name].as_ref().ok().copied()
    }

    /// What there is no polynomial for, a line each.
    fn missing(&self, graph: &Graph) -> String {
        let reason =
            |node: &Node| Some(format!("{}: {}\n", node.name, self.by_node[&node.name].as_ref().err()?));
        graph.nodes().iter().filter_map(reason).collect()
    }
}

fn table(graph: &Graph, levels: &Levels) -> String {
    let rows: Vec<[String; 6]> = graph
        .values()
        .map(|(_, node)| {
            let params: usize = graph.params_of(node).iter().map(|p| p.shape.iter().product::<usize>()).sum();
            let inputs: Vec<&str> =
                node.inputs.iter().map(|input| graph.node(*input).name.as_str()).collect();
            let number = |n: usize| if n == 0 { String::new() } else { n.to_string() };
            [
                node.name.clone(),
                drawing::operation(&node.op),
                node.shape.to_string(),
                number(params),
                levels.of(node).map_or_else(|| "?".to_owned(), |levels| number(levels as usize)),
                inputs.join(", "),
            ]
        })
        .collect();
    let headings = ["node", "operation", "shape", "parameters", "levels", "inputs"];
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in [headings.map(str::to_owned)].iter().chain(&rows) {
        let [name, op, shape, params, levels, inputs] = row;
        let line = format!(
            "{name:0$}  {op:1$}  {shape:2$}  {params:>3$}  {levels:>4$}  {inputs}",
            widths[0], widths[1], widths[2], widths[3], widths[4]
        );
        writeln!(text, "{}", line.trim_end()).expect("a String takes all");
    }
    let missing = levels.missing(graph);
    writeln!(
        text,
        "\n{} nodes, {} parameters, {} sites; net depth {}{} levels at alpha {}",
        graph.nodes().len(),
        graph.parameters(),
        graph.sites().count(),
        if missing.is_empty() { "" } else { "at least " },
        longest_path(graph, |node| levels.of(node).unwrap_or(0)),
        levels.alpha,
    )
    .expect("a String takes all");
    if !missing.is_empty() {
        write!(text, "\n{missing}--alpha and --bound set what is asked of them\n")
            .expect("a String takes all");
    }
    text
}
