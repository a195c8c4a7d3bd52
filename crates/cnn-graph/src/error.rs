//! What can be wrong with a graph.

/// Why a graph cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// A node does not take what it is given.
    #[error("{node} ({op}): {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// The operation's name.
        op: &'static str,
        /// What is wrong, with the shapes.
        reason: String,
    },
    /// Two nodes have one name, so that weights or policies could not tell them apart.
    #[error("two nodes are called `{name}`")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// There is no such backbone.
    #[error("unknown backbone `{name}` for {dataset}; known: {}", known.join(", "))]
    UnknownBackbone {
        /// The data set.
        dataset: String,
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: Vec<&'static str>,
    },
}

/// The results of this crate.
pub type Result<T, E = GraphError> = std::result::Result<T, E>;
