//! Passes: what can be found out about a graph, or made of it, before anything is computed.
//!
//! | pass | what |
//! |---|---|
//! | [`fuse`](mod@fuse) | which nodes run as one step |
//! | [`fold`](mod@fold) | batch norm as part of the convolution before it |
//! | [`depth`] | the longest path from input to output, such as the levels of all activations |
//! | [`liveness`] | after which step a value is not needed any more |
//! | [`prune`](mod@prune) | a graph without the nodes that its output does not depend on |

pub mod depth;
pub mod fold;
pub mod fuse;
pub mod liveness;
pub mod prune;

pub use depth::longest_path;
pub use fold::{FoldedConv, fold_batch_norm};
pub use fuse::{FusedConv, Step, fuse};
pub use liveness::last_uses;
pub use prune::prune;
