//! Which values of a pickle are the tensors of a state_dict.
//!
//! Interprets the calls by which PyTorch pickles dense tensors: `torch._utils._rebuild_tensor_v2` and
//! `_rebuild_parameter` today, `_rebuild_tensor` and the state of `torch.nn.parameter.Parameter` and
//! `torch.FloatTensor` in files of its first versions.

use std::collections::HashMap;

use crate::dtype::{Dtype, of_class};
use crate::error::TensorError;
use crate::pickle::{Id, MAX_NAME, Node, Pickle};

/// More dimensions than PyTorch computes with.
const MAX_DIMENSIONS: usize = 64;
/// How often a tensor may be wrapped, as Parameter and the like.
const MAX_WRAPPERS: usize = 8;

/// A reference to a storage: `('storage', class, key, location, elements, view)`.
#[derive(Debug)]
pub(crate) struct StorageRef<'a> {
    pub key: &'a str,
    pub dtype: Dtype,
    pub elements: u64,
    /// First element and number of elements, where a part stands for the whole.
    pub view: Option<(u64, u64)>,
}

/// A tensor as the pickle has it; nothing is checked against the file yet.
#[derive(Debug)]
pub(crate) struct RawTensor<'a> {
    pub storage: StorageRef<'a>,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub strides: Vec<u64>,
}

/// Why there are no tensors.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The file holds something else, as described.
    NotAStateDict(String),
    /// A value cannot be read as a tensor.
    Tensor(String, TensorError),
}

/// The tensors of the state_dict that the pickle is, or has under `state_dict` or `model`.
pub(crate) fn tensors(pickle: &Pickle) -> Result<Vec<(&str, RawTensor<'_>)>, Fault> {
    let items = state_dict(pickle)?;
    let mut tensors: Vec<(&str, RawTensor)> = Vec::new();
    let mut places = HashMap::new();
    for &(key, value) in items {
        let name = match pickle.node(key) {
            Node::Str(name) if name.len() <= MAX_NAME && !name.chars().any(char::is_control) => &**name,
            Node::Str(_) => {
                let found = "a dict with a key that is too long or has control characters";
                return Err(Fault::NotAStateDict(found.to_owned()));
            }
            _ => {
                return Err(Fault::NotAStateDict(format!("a dict with {} as a key", pickle.describe(key))));
            }
        };
        if is_plain(pickle.node(value)) {
            continue;
        }
        let tensor = tensor(pickle, value).map_err(|problem| Fault::Tensor(name.to_owned(), problem))?;
        match places.get(name) {
            Some(&place) => tensors[place] = (name, tensor),
            None => {
                places.insert(name, tensors.len());
                tensors.push((name, tensor));
            }
        }
    }
    Ok(tensors)
}

/// Whether a value, such as a number of epochs, may stand between tensors.
fn is_plain(node: &Node) -> bool {
    matches!(node, Node::None | Node::Bool(_) | Node::Int(_) | Node::Str(_) | Node::Plain(_))
}

fn state_dict(pickle: &Pickle) -> Result<&[(Id, Id)], Fault> {
    let root = pickle.root_id();
    let Node::Dict(items) = pickle.node(root) else {
        return Err(Fault::NotAStateDict(pickle.describe(root)));
    };
    for key in ["state_dict", "model"] {
        let Some(value) = pickle.get(root, key) else { continue };
        match pickle.node(value) {
            Node::Dict(items) => return Ok(items),
            Node::Call { .. } if matches!(tensor(pickle, value), Err(TensorError::Object(_))) => {
                let found = format!("a checkpoint whose `{key}` is {}", pickle.describe(value));
                return Err(Fault::NotAStateDict(found));
            }
            _ => {}
        }
    }
    if !items.iter().any(|(_, value)| matches!(pickle.node(*value), Node::Call { .. })) {
        return Err(Fault::NotAStateDict(describe_dict(pickle, items)));
    }
    Ok(items)
}

fn describe_dict(pickle: &Pickle, items: &[(Id, Id)]) -> String {
    /// Keys that are told.
    const SHOWN: usize = 5;
    if items.is_empty() {
        return "an empty dict".to_owned();
    }
    let mut keys = Vec::new();
    for (key, _) in items.iter().take(SHOWN) {
        keys.push(match pickle.node(*key) {
            Node::Str(key) => format!("'{}'", key.chars().take(40).collect::<String>().escape_debug()),
            _ => pickle.describe(*key),
        });
    }
    let dots = if items.len() > SHOWN { ", …" } else { "" };
    format!("a dict without tensors (its keys: {}{dots})", keys.join(", "))
}

/// Follows a value to a tensor.
fn tensor(pickle: &Pickle, mut id: Id) -> Result<RawTensor<'_>, TensorError> {
    for _ in 0..MAX_WRAPPERS {
        let Node::Call { callable, args: args_id, state } = pickle.node(id) else {
            return Err(TensorError::NotATensor(pickle.describe(id)));
        };
        let maker = pickle.maker(*callable, *args_id);
        let Node::Tuple(args) = pickle.node(*args_id) else {
            return Err(malformed("arguments", pickle, *args_id));
        };
        let state = state.and_then(|id| match pickle.node(id) {
            Node::Tuple(items) => Some(&**items),
            _ => None,
        });
        let Some(name) = maker.strip_prefix("torch.") else {
            return Err(TensorError::Object(maker.to_owned()));
        };
        match name {
            "_utils._rebuild_tensor" | "_utils._rebuild_tensor_v2" => {
                if let Some(&metadata) = args.get(6) {
                    check_metadata(pickle, metadata)?;
                }
                return raw_tensor(pickle, args);
            }
            "_utils._rebuild_parameter" | "_utils._rebuild_parameter_with_state" => {
                id = first(args)?;
            }
            "nn.parameter.Parameter" | "nn.Parameter" => {
                // State of five: the data and what belongs to the gradient.
                id = match state {
                    Some(items) if items.len() == 5 => items[0],
                    _ => first(args)?,
                };
            }
            "_utils._rebuild_qtensor" => return Err(TensorError::Kind("quantized")),
            "_utils._rebuild_sparse_tensor" | "_utils._rebuild_sparse_csr_tensor" => {
                return Err(TensorError::Kind("sparse"));
            }
            "_utils._rebuild_meta_tensor_no_storage" => return Err(TensorError::Kind("meta")),
            "_utils._rebuild_nested_tensor" => return Err(TensorError::Kind("nested")),
            _ if of_class(maker, "Tensor").is_some() => {
                // State of four: the arguments of `_rebuild_tensor`.
                return match state {
                    Some(items) if items.len() == 4 => raw_tensor(pickle, items),
                    _ => Err(TensorError::Object(maker.to_owned())),
                };
            }
            _ => return Err(TensorError::Object(maker.to_owned())),
        }
    }
    Err(TensorError::NotATensor(format!("more than {MAX_WRAPPERS} objects in each other")))
}

fn first(args: &[Id]) -> Result<Id, TensorError> {
    args.first().copied().ok_or_else(|| TensorError::Malformed { part: "data", found: "missing".to_owned() })
}

fn malformed(part: &'static str, pickle: &Pickle, found: Id) -> TensorError {
    TensorError::Malformed { part, found: pickle.describe(found) }
}

/// A tensor of the arguments (storage, offset, shape, strides, …).
fn raw_tensor<'a>(pickle: &'a Pickle, args: &[Id]) -> Result<RawTensor<'a>, TensorError> {
    let &[storage, offset, shape, strides, ..] = args else {
        let found = format!("{} of at least 4", args.len());
        return Err(TensorError::Malformed { part: "argument list", found });
    };
    Ok(RawTensor {
        storage: StorageRef::new(pickle, storage)?,
        offset: number(pickle, offset, "offset")?,
        shape: numbers(pickle, shape, "shape")?,
        strides: numbers(pickle, strides, "strides")?,
    })
}

/// Marks of lazy negation or conjugation, which would have to be done here.
fn check_metadata(pickle: &Pickle, id: Id) -> Result<(), TensorError> {
    match pickle.node(id) {
        Node::None => Ok(()),
        Node::Dict(marks)
            if marks.len() <= 2
                && marks.iter().all(|(_, mark)| matches!(pickle.node(*mark), Node::Bool(false))) =>
        {
            Ok(())
        }
        Node::Dict(_) => Err(TensorError::Kind("lazily negated or conjugated")),
        _ => Err(malformed("metadata", pickle, id)),
    }
}

fn number<T: TryFrom<i128>>(pickle: &Pickle, id: Id, part: &'static str) -> Result<T, TensorError> {
    match pickle.node(id) {
        Node::Int(number) => T::try_from(*number)
            .map_err(|_| TensorError::Malformed { part, found: format!("the number {number}") }),
        _ => Err(malformed(part, pickle, id)),
    }
}

fn numbers<T: TryFrom<i128>>(pickle: &Pickle, id: Id, part: &'static str) -> Result<Vec<T>, TensorError> {
    let items = match pickle.node(id) {
        Node::Tuple(items) => &**items,
        Node::List(items) => items,
        // torch.Size((…,))
        Node::Call { callable, args, .. } if pickle.maker(*callable, *args) == "torch.Size" => {
            let Node::Tuple(args) = pickle.node(*args) else { return Err(malformed(part, pickle, id)) };
            match args.first().map(|&id| pickle.node(id)) {
                Some(Node::Tuple(items)) => items,
                _ => return Err(malformed(part, pickle, id)),
            }
        }
        _ => return Err(malformed(part, pickle, id)),
    };
    if items.len() > MAX_DIMENSIONS {
        let found = format!("of {} dimensions, more than {MAX_DIMENSIONS}", items.len());
        return Err(TensorError::Malformed { part, found });
    }
    items.iter().map(|&id| number(pickle, id, part)).collect()
}

impl<'a> StorageRef<'a> {
    fn new(pickle: &'a Pickle, id: Id) -> Result<Self, TensorError> {
        const PART: &str = "storage";
        let Node::Persistent(reference) = pickle.node(id) else { return Err(malformed(PART, pickle, id)) };
        let Some((key, class)) = Self::key_and_class(pickle, *reference) else {
            return Err(malformed(PART, pickle, *reference));
        };
        let dtype = of_class(class, "Storage").ok_or_else(|| TensorError::StorageType(class.to_owned()))?;
        let Node::Tuple(items) = pickle.node(*reference) else {
            return Err(malformed(PART, pickle, *reference));
        };
        let &[_, _, _, _, elements, ref view @ ..] = &**items else {
            return Err(malformed(PART, pickle, *reference));
        };
        let view = match view.first().map(|&view| (view, pickle.node(view))) {
            None | Some((_, Node::None)) => None,
            Some((_, Node::Tuple(view))) if view.len() == 3 => {
                Some((number(pickle, view[1], "storage's view")?, number(pickle, view[2], "storage's view")?))
            }
            Some((view, _)) => return Err(malformed("storage's view", pickle, view)),
        };
        Ok(Self { key, dtype, elements: number(pickle, elements, "storage's size")?, view })
    }

    /// The key and class that the tuple `id` refers to, if it refers to a storage.
    pub(crate) fn key_and_class(pickle: &'a Pickle, id: Id) -> Option<(&'a str, &'a str)> {
        let Node::Tuple(items) = pickle.node(id) else { return None };
        let &[kind, class, key, ..] = &**items else { return None };
        match (pickle.node(kind), pickle.node(class), pickle.node(key)) {
            (Node::Str(kind), Node::Global(class), Node::Str(key))
                if **kind == *"storage" && key.len() <= MAX_NAME && !key.chars().any(char::is_control) =>
            {
                Some((key, class))
            }
            _ => None,
        }
    }
}
