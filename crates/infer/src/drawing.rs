//! Pictures of a graph: in Graphviz's language, and as SVG.
//!
//! The SVG needs no layout program: nodes stand below each other in topological order, a line of track runs from each node
//! to the next, and what skips nodes runs beside it, in the nearest lane that is free.

use std::fmt::Write;

use approx_models::Graph;
use approx_models::ops::{Op, Padding, Pool};
use cnn_graph::Node;

/// An operation with its settings, in a few characters.
pub fn operation(op: &Op) -> String {
    match op {
        Op::Conv(conv) => {
            let mut text = format!("conv {}", size(conv.kernel));
            if conv.stride != [1, 1] {
                text += &format!(" /{}", pair(conv.stride));
            }
            if conv.dilation != [1, 1] {
                text += &format!(" dilation {}", pair(conv.dilation));
            }
            if conv.groups > 1 {
                text += &format!(" groups {}", conv.groups);
            }
            text + &padding(conv.padding)
        }
        Op::MaxPool(pool) => format!("max-pool {}", window(&pool.0)),
        Op::AvgPool(pool) => format!("avg-pool {}", window(&pool.window)),
        Op::AdaptiveAvgPool(pool) => format!("avg-pool to {}", size(pool.size)),
        Op::GlobalAvgPool(_) => "global avg-pool".to_owned(),
        Op::Activation(activation) => activation.to_string(),
        Op::BatchNorm(_) => "batch norm".to_owned(),
        Op::Linear(linear) => format!("linear {}", linear.outputs),
        Op::Slice(slice) => match slice.step {
            1 => format!("slice {}..{}", slice.start, slice.end),
            step => format!("slice {}..{} /{step}", slice.start, slice.end),
        },
        other => other.name().replace('_', " "),
    }
}

fn size([height, width]: [usize; 2]) -> String {
    format!("{height}×{width}")
}

/// One number for both axes, if they are the same.
fn pair([height, width]: [usize; 2]) -> String {
    if height == width { height.to_string() } else { format!("{height},{width}") }
}

fn padding(padding: Padding) -> String {
    match (padding, padding.as_symmetric()) {
        (Padding::ZERO, _) => String::new(),
        (_, Some((rows, columns))) => format!(" pad {}", pair([rows, columns])),
        (Padding { top, bottom, left, right }, None) => format!(" pad {top},{bottom},{left},{right}"),
    }
}

fn window(pool: &Pool) -> String {
    let ceil = if pool.ceil_mode { " ceil" } else { "" };
    format!("{} /{}{}{ceil}", size(pool.kernel), pair(pool.stride), padding(pool.padding))
}

/// What a node is for the reader of a picture.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// Weights.
    Linear,
    /// Polynomials under encryption.
    Site,
    /// Moves numbers or adds them.
    Plain,
    /// Where values come in.
    Input,
}

impl Role {
    fn of(node: &Node) -> Self {
        match &node.op {
            Op::Input(_) => Self::Input,
            op if op.is_site() => Self::Site,
            Op::Conv(_) | Op::Linear(_) | Op::BatchNorm(_) => Self::Linear,
            _ => Self::Plain,
        }
    }

    /// Fill and outline.
    fn colours(self) -> [&'static str; 2] {
        match self {
            Self::Linear => ["#e3ecf8", "#4a78b5"],
            Self::Site => ["#fbe3d6", "#c8612b"],
            Self::Plain => ["#eeeeec", "#8b8b86"],
            Self::Input => ["#e0f0e3", "#4d9460"],
        }
    }
}

/// The graph in Graphviz's language: `dot -Tsvg graph.dot`.
pub fn dot(graph: &Graph) -> String {
    let mut text = String::from(
        "digraph network {\n  node [shape=box, style=\"filled,rounded\", fontname=\"sans-serif\"];\n",
    );
    for (value, node) in graph.values() {
        let [fill, outline] = Role::of(node).colours();
        let label = format!("{}\n{}\n{}", node.name, operation(&node.op), node.shape);
        writeln!(
            text,
            "  n{} [label={}, fillcolor=\"{fill}\", color=\"{outline}\"];",
            value.index(),
            quoted(&label)
        )
        .expect("a String takes all");
        for input in &node.inputs {
            writeln!(text, "  n{} -> n{};", input.index(), value.index()).expect("a String takes all");
        }
    }
    text + "}\n"
}

/// A string of Graphviz's language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

const ROW: usize = 34;
const BOX: usize = 26;
const MARGIN: usize = 16;
const LANE: usize = 12;
/// About the width of a character.
const CHARACTER: usize = 7;

/// A line from a node to one further down than the next.
struct Skip {
    from: usize,
    to: usize,
    lane: usize,
}

/// The graph as a picture.
pub fn svg(graph: &Graph) -> String {
    let skips = skips(graph);
    let lanes = skips.iter().map(|skip| skip.lane + 1).max().unwrap_or(0);
    let longest = |text: &dyn Fn(&Node) -> String| {
        graph.nodes().iter().map(|node| text(node).chars().count()).max().unwrap_or(0) * CHARACTER
    };
    let (name_width, op_width) = (longest(&|node| node.name.clone()), longest(&|node| operation(&node.op)));
    let shape_width = longest(&|node| node.shape.to_string());
    let box_width = 12 + name_width + 18 + op_width + 18 + shape_width + 12;
    let (width, height) =
        (2 * MARGIN + box_width + (lanes + 1) * LANE, 2 * MARGIN + graph.nodes().len() * ROW);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"ui-monospace, monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let top = |index: usize| MARGIN + index * ROW;
    let (middle, right) = (MARGIN + 24, MARGIN + box_width);
    for (value, node) in graph.values() {
        if node.inputs.iter().any(|input| input.index() + 1 == value.index()) {
            let (from, to) = (top(value.index() - 1) + BOX, top(value.index()));
            line(&mut text, &format!("M{middle} {from} V{to}"));
        }
    }
    for skip in &skips {
        let (from, to) = (top(skip.from) + BOX / 2 + 4, top(skip.to) + BOX / 2 - 4);
        let x = right + (skip.lane + 1) * LANE;
        line(
            &mut text,
            &format!(
                "M{right} {from} H{0} Q{x} {from} {x} {1} V{2} Q{x} {to} {0} {to} H{right}",
                x - 4,
                from + 4,
                to - 4
            ),
        );
    }
    for (value, node) in graph.values() {
        let [fill, outline] = Role::of(node).colours();
        let (y, left) = (top(value.index()), MARGIN);
        let baseline = y + BOX / 2 + 4;
        let (op_x, shape_x) = (left + 12 + name_width + 18, right - 12);
        write!(
            text,
            "<rect x=\"{left}\" y=\"{y}\" width=\"{box_width}\" height=\"{BOX}\" rx=\"5\" fill=\"{fill}\" \
             stroke=\"{outline}\"/>\n<text x=\"{}\" y=\"{baseline}\">{}</text>\n\
             <text x=\"{op_x}\" y=\"{baseline}\" fill=\"#333333\">{}</text>\n\
             <text x=\"{shape_x}\" y=\"{baseline}\" fill=\"#666666\" text-anchor=\"end\">{}</text>\n",
            left + 12,
            escaped(&node.name),
            escaped(&operation(&node.op)),
            node.shape,
        )
        .expect("a String takes all");
    }
    text + "</svg>\n"
}

fn line(text: &mut String, path: &str) {
    writeln!(text, "<path d=\"{path}\" fill=\"none\" stroke=\"#8b8b86\" stroke-width=\"1.3\"/>")
        .expect("a String takes all");
}

/// Lines that skip nodes, the shortest in the nearest lanes.
fn skips(graph: &Graph) -> Vec<Skip> {
    let mut skips: Vec<Skip> = Vec::new();
    for (value, node) in graph.values() {
        for input in &node.inputs {
            let (from, to) = (input.index(), value.index());
            if from + 1 < to && skips.iter().all(|skip| (skip.from, skip.to) != (from, to)) {
                skips.push(Skip { from, to, lane: 0 });
            }
        }
    }
    skips.sort_by_key(|skip| skip.to - skip.from);
    for index in 0..skips.len() {
        let (from, to) = (skips[index].from, skips[index].to);
        let taken = |lane: usize| {
            skips[..index].iter().any(|other| other.lane == lane && other.from < to && from < other.to)
        };
        skips[index].lane = (0..).find(|lane| !taken(*lane)).expect("some lane is free");
    }
    skips
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use approx_models::Backbone;

    use super::*;

    #[test]
    fn both_pictures_have_all_nodes_and_all_edges() {
        for (dataset, name) in [("cifar10", "resnet20"), ("imagenet", "googlenet")] {
            let graph = Backbone::find(dataset, name).unwrap().graph().unwrap();
            let edges: usize = graph.nodes().iter().map(|node| node.inputs.len()).sum();
            let dot = dot(&graph);
            assert_eq!(dot.matches("[label=").count(), graph.nodes().len());
            assert_eq!(dot.matches(" -> ").count(), edges);
            let svg = svg(&graph);
            let document = roxmltree::Document::parse(&svg).unwrap();
            let count = |tag: &str| document.descendants().filter(|node| node.has_tag_name(tag)).count();
            assert_eq!(count("text"), 3 * graph.nodes().len());
            assert_eq!(count("path"), edges);
        }
    }

    #[test]
    fn lines_in_one_lane_do_not_meet() {
        let graph = Backbone::find("imagenet", "inception_v3").unwrap().graph().unwrap();
        let skips = skips(&graph);
        for (i, a) in skips.iter().enumerate() {
            for b in &skips[..i] {
                assert!(a.lane != b.lane || a.to <= b.from || b.to <= a.from);
            }
        }
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"b\\c\nd"), "\"a\\\"b\\\\c\\nd\"");
        assert_eq!(escaped("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
