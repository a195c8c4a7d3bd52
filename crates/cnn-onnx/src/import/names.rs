//! Names of nodes: module paths where the exporter left them.
//!
//! A node with weights has the name that its weights have in the module (`layer1.0.conv1`); another node has the path of
//! its module (`layer1.0.relu`), or the path of the module that calls a function with the function's name behind it
//! (`layer1.0.add`). Where there is no path, the node's own name is taken. A name that is taken gets a number.

use std::collections::{BTreeSet, HashMap};

use cnn_graph::ops::{Activation, Op};

use crate::import::draft::Draft;
use crate::proto::NodeProto;

/// The longest name or path, in bytes; longer ones are cut.
const LONGEST: usize = 200;

/// What a file says of where a node comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    /// The path of the module, which may be empty for the outermost one; `None` if the file does not say.
    path: Option<String>,
    /// The path of the module that has the weight.
    weight: Option<String>,
    /// Whether the path is a better name than that of the weight. Weights that are equal are one in a file, under the name
    /// of one of them; but the newer exporter gives a convolution the path of the batch norm that is folded into it.
    path_first: bool,
    /// The node's name.
    name: String,
    operator: String,
}

impl Hint {
    pub fn of(node: &NodeProto) -> Self {
        let entry = |key: &str| {
            node.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
        };
        let path = entry("pkg.torch.onnx.name_scopes")
            .and_then(from_name_scopes)
            .or_else(|| entry("namespace").and_then(from_namespace));
        let path_first = path.is_none() || !matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul");
        let path = path.or_else(|| from_node_name(&node.name));
        let modules = |name: &&str| ["weight", "running_mean"].contains(name);
        let weight =
            node.input.iter().skip(1).find_map(|input| {
                input.rsplit_once('.').filter(|(_, end)| modules(end)).map(|(path, _)| path)
            });
        Self {
            path: path.map(|path| cut(&path)),
            path_first,
            weight: weight.filter(|path| !path.is_empty() && !path.contains("::")).map(cut),
            name: cut(node.name.trim_matches('/')).replace('/', "."),
            operator: cut(&node.op_type),
        }
    }

    /// A name for messages.
    pub fn label(&self) -> String {
        let named = |path: &&String| !path.is_empty();
        let of_operator = || self.operator.to_lowercase();
        let by_path = self.path.as_ref().filter(|path| self.path_first && !path.is_empty());
        match by_path.or(self.weight.as_ref()).or(self.path.as_ref()).filter(named) {
            Some(path) => path.clone(),
            None if self.path.is_none() && !self.name.is_empty() => self.name.clone(),
            None => of_operator(),
        }
    }
}

/// A text of at most [`LONGEST`] bytes.
fn cut(text: &str) -> String {
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

/// `['', 'layer1', 'layer1.0', 'layer1.0.relu', 'relu_1']`: the modules from the outermost one, then the function.
fn from_name_scopes(list: &str) -> Option<String> {
    let list = list.strip_prefix('[')?.strip_suffix(']')?;
    let texts: Vec<&str> = list.split(", ").map(|text| text.trim_matches(['\'', '"'])).collect();
    let [.., module, _] = texts[..] else { return None };
    Some(module.to_owned())
}

/// `: Net/layer1: Sequential/layer1.0.relu: ReLU/relu_1: aten.relu.default`, likewise.
fn from_namespace(text: &str) -> Option<String> {
    let (modules, _) = text.rsplit_once('/')?;
    let (name, _) = modules.rsplit('/').next()?.split_once(':')?;
    Some(name.trim().to_owned())
}

/// `/layer1/layer1.0/relu/Relu`: the modules, of which one in a container has the container's name in its own, then the
/// operator.
fn from_node_name(name: &str) -> Option<String> {
    let (modules, _) = name.strip_prefix('/')?.rsplit_once('/').unwrap_or(("", ""));
    let mut path = String::new();
    let mut last = "";
    for module in modules.split('/').filter(|module| !module.is_empty()) {
        let within = !last.is_empty() && module.strip_prefix(last).is_some_and(|rest| rest.starts_with('.'));
        if within {
            path.truncate(path.len() - last.len());
        } else if !path.is_empty() {
            path.push('.');
        }
        path.push_str(module);
        last = module;
    }
    Some(path)
}

/// Unique names for all nodes.
pub(crate) fn assign(drafts: &[Draft]) -> Vec<String> {
    let paths: BTreeSet<&str> = drafts.iter().filter_map(|draft| draft.hint.path.as_deref()).collect();
    // A module that contains none.
    let is_leaf = |path: &str| {
        let inner = format!("{path}.");
        !path.is_empty() && !paths.range(inner.as_str()..).next().is_some_and(|next| next.starts_with(&inner))
    };
    let leaves: BTreeSet<&str> = paths.iter().copied().filter(|path| is_leaf(path)).collect();
    // What is in each such module: of one kind, its nodes are named by it.
    let mut kinds: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for draft in drafts.iter().filter(|draft| draft.main) {
        if let Some(path) = draft.hint.path.as_deref().filter(|path| leaves.contains(path)) {
            kinds.entry(path).or_default().insert(kind(draft));
        }
    }

    let mut names = Names::default();
    let mut assigned = vec![String::new(); drafts.len()];
    assigned[0] = names.unique("input".to_owned());
    // Weights first, then modules, then functions: what has a name of its own keeps it.
    let mut later: Vec<(usize, String)> = Vec::new();
    let mut last: Vec<(usize, String)> = Vec::new();
    for (index, draft) in drafts.iter().enumerate().skip(1) {
        let (hint, kind) = (&draft.hint, kind(draft));
        let has_weights = matches!(draft.graph_op(), Some(Op::Conv(_) | Op::Linear(_) | Op::BatchNorm(_)));
        let alone = |path| draft.main && kinds.get(path).is_some_and(|kinds| kinds.len() == 1);
        match (&hint.weight, hint.path.as_deref()) {
            (_, Some(path)) if has_weights && hint.path_first && alone(path) => {
                assigned[index] = names.unique(path.to_owned());
            }
            (Some(weight), _) if has_weights => assigned[index] = names.unique(weight.clone()),
            (_, Some(path)) => match alone(path) {
                true => later.push((index, path.to_owned())),
                false => last.push((index, join(path, kind))),
            },
            (_, None) if draft.main && !hint.name.is_empty() => later.push((index, hint.name.clone())),
            (_, None) => last.push((index, join(&hint.name, kind))),
        }
    }
    for (index, name) in later.into_iter().chain(last) {
        assigned[index] = names.unique(name);
    }
    assigned
}

fn join(path: &str, kind: &str) -> String {
    if path.is_empty() { kind.to_owned() } else { format!("{path}.{kind}") }
}

/// What a node is called that has no name of its own.
fn kind(draft: &Draft) -> &'static str {
    match draft.graph_op() {
        Some(Op::Activation(activation)) => match activation {
            Activation::Relu => "relu",
            Activation::LeakyRelu { .. } => "leaky_relu",
            Activation::Clip { low, high } if (*low, *high) == (0.0, 6.0) => "relu6",
            Activation::Clip { .. } => "clip",
            Activation::HardSigmoid { .. } => "hard_sigmoid",
            Activation::HardSwish => "hard_swish",
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
            Activation::Silu => "silu",
            Activation::Gelu | Activation::GeluTanh => "gelu",
        },
        Some(op) => op.name(),
        None => "erf",
    }
}

/// Names that are taken.
#[derive(Debug, Default)]
struct Names {
    /// The names, with the last number that was tried behind each.
    taken: HashMap<String, usize>,
}

impl Names {
    fn unique(&mut self, name: String) -> String {
        let mut number = self.taken.get(&name).copied();
        let mut unique = name.clone();
        while let Some(last) = number {
            unique = format!("{name}_{}", last + 1);
            number = Some(last + 1);
            if !self.taken.contains_key(&unique) {
                break;
            }
        }
        self.taken.insert(name, number.unwrap_or(0));
        self.taken.entry(unique.clone()).or_insert(0);
        unique
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_modules() {
        let legacy = [
            ("/layer1/layer1.0/conv1/Conv", Some("layer1.0.conv1")),
            ("/layer1/layer1.0/downsample/downsample.0/Conv", Some("layer1.0.downsample.0")),
            ("/features/features.2/features.2.0/Relu_1", Some("features.2.0")),
            ("/Flatten", Some("")),
            ("Conv_12", None),
        ];
        for (name, path) in legacy {
            assert_eq!(from_node_name(name).as_deref(), path, "{name}");
        }
        assert_eq!(from_name_scopes("['', 'layer1', 'layer1.0', 'relu_1']").as_deref(), Some("layer1.0"));
        assert_eq!(from_name_scopes("['', 'add']").as_deref(), Some(""));
        assert_eq!(from_name_scopes("['add']"), None);
        let namespace = ": net.Net/a: torch.nn.Sequential/a.1: torch.nn.ReLU/relu: aten.relu.default";
        assert_eq!(from_namespace(namespace).as_deref(), Some("a.1"));
        assert_eq!(from_namespace(": net.Net/add: aten.add.Tensor").as_deref(), Some(""));
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let mut names = Names::default();
        let given = ["a", "a", "a_1", "a", "b"].map(|name| names.unique(name.to_owned()));
        assert_eq!(given, ["a", "a_1", "a_1_1", "a_2", "b"]);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(cut(&"ä".repeat(150)), "ä".repeat(100));
        assert_eq!(cut(&format!("a{}", "ä".repeat(150))).len(), 199);
    }
}
