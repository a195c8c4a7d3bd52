//! What can be wrong with a file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use cnn_graph::GraphError;

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The system cannot read or write.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bytes are no ONNX file.
    #[error("not an ONNX file: {0}")]
    Format(String),
    /// The file is for another version of the operators.
    #[error(
        "the file uses version {found} of ONNX's operators; versions {first} to {last} can be read: export it with \
         opset_version={last}, or convert it by onnx.version_converter"
    )]
    Opset {
        /// The file's.
        found: i64,
        /// The oldest that can be read.
        first: i64,
        /// The newest that can be read.
        last: i64,
    },
    /// The network's inputs and outputs are not one value each, or the input's shape is not known.
    #[error("{0}")]
    Interface(String),
    /// A tensor's numbers are not there or not what they should be.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A node contradicts itself or what it is given.
    #[error("{node} ({operator}): {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// ONNX's operator.
        operator: String,
        /// What is wrong, with the numbers.
        reason: String,
    },
    /// Nodes that no graph can have, all of them.
    #[error("{0}")]
    Unsupported(Unsupported),
    /// The graph is not consistent.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// There is no parameter of this name.
    #[error("the network has no parameter `{0}`")]
    NoParameter(String),
    /// A parameter of a network that is written cannot be had.
    #[error("{name}: {source}")]
    Parameter {
        /// The parameter's name.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system cannot write.
    #[error("cannot write: {0}")]
    Write(#[source] std::io::Error),
    /// A graph cannot be written.
    #[error("{node}: {reason}")]
    Export {
        /// The node's name.
        node: String,
        /// Why.
        reason: String,
    },
}

/// The results of this crate.
pub type Result<T, E = OnnxError> = std::result::Result<T, E>;

/// A node that no graph can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedNode {
    /// The node's name: the module path where the file has one.
    pub node: String,
    /// ONNX's operator.
    pub operator: String,
    /// What is the matter, and what can be done.
    pub reason: String,
}

/// All nodes of a file that no graph can have.
///
/// Its text has a line for each operator and reason, and names that differ only in numbers once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The nodes, in the file's order.
    pub nodes: Vec<UnsupportedNode>,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for node in &self.nodes {
            groups.entry((&node.operator, &node.reason)).or_default().push(&node.node);
        }
        let (count, plural) = (self.nodes.len(), if self.nodes.len() == 1 { "node" } else { "nodes" });
        write!(f, "the network has {count} {plural} that cannot be read:")?;
        for ((operator, reason), nodes) in groups {
            write!(f, "\n  {operator}: {reason}\n    {}", patterns(&nodes).join(", "))?;
        }
        Ok(())
    }
}

/// Names, with those that differ only in numbers as one: `layers.*.norm (12)`.
fn patterns(names: &[&str]) -> Vec<String> {
    let pattern = |name: &str| {
        let mut pattern = String::with_capacity(name.len());
        for c in name.chars() {
            match c.is_ascii_digit() {
                true if pattern.ends_with('*') => {}
                true => pattern.push('*'),
                false => pattern.push(c),
            }
        }
        pattern
    };
    let mut groups: Vec<(String, &str, usize)> = Vec::new();
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        let at = *index.entry(pattern(name)).or_insert_with_key(|pattern| {
            groups.push((pattern.clone(), name, 0));
            groups.len() - 1
        });
        groups[at].2 += 1;
    }
    let text = |(pattern, first, count): (String, &str, usize)| match count {
        1 => first.to_owned(),
        _ => format!("{pattern} ({count})"),
    };
    groups.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_numbers_are_one() {
        let node = |node: &str, operator: &str| UnsupportedNode {
            node: node.to_owned(),
            operator: operator.to_owned(),
            reason: "is not possible".to_owned(),
        };
        let nodes =
            vec![node("layers.0.norm", "Norm"), node("head", "Softmax"), node("layers.11.norm", "Norm")];
        assert_eq!(
            Unsupported { nodes }.to_string(),
            "the network has 3 nodes that cannot be read:\n  Norm: is not possible\n    layers.*.norm (2)\n  \
             Softmax: is not possible\n    head"
        );
    }
}
