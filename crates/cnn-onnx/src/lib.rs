//! Convolutional networks from ONNX files, and into them.
//!
//! [`Model::open`] reads a file as PyTorch's exporters write it and gives the network as a
//! [`Graph`](cnn_graph::Graph) with its parameters; [`write()`] writes a graph as an ONNX file. Nothing is executed here, and
//! nothing but the graph is left of the file. What can be read, and how sites are called: docs/onnx.md.
//!
//! | module | what |
//! |---|---|
//! | [`model`] | [`Model`], and the options of reading |
//! | [`params`] | [`Params`]: shapes and numbers by name, read when they are asked for |
//! | [`error`] | [`OnnxError`]; one error lists all nodes that no graph can have |
//! | `ops` | ONNX's operators, a file each family: how they become nodes of a graph, and the other way round |
//! | `import` | the walk over a file's nodes, constant arithmetic, patterns of several nodes, names |
//! | `export` | the file's frame, and its parameters without a second copy of them |
//! | `proto`, `file`, `tensor` | messages, files that are not trusted, constant tensors |
//!
//! ```
//! use cnn_graph::GraphBuilder;
//! use cnn_graph::ops::Conv;
//! use cnn_onnx::Model;
//!
//! let mut b = GraphBuilder::new([1, 4, 4]);
//! let x = b.input();
//! let x = b.conv("conv1", x, Conv::same(2, 3));
//! let x = b.relu("relu1", x);
//! let graph = b.finish(x)?;
//!
//! let mut file = Vec::new();
//! cnn_onnx::write(&graph, |param| Ok(vec![0.5; param.shape.iter().product()]), &mut file)?;
//! let model = Model::from_bytes(file)?;
//! assert_eq!(model.graph, graph);
//! assert_eq!(model.params.read("conv1.weight")?, vec![0.5; 2 * 9]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod error;
mod export;
mod file;
mod import;
pub mod model;
mod ops;
pub mod params;
mod proto;
mod tensor;

pub use error::{OnnxError, Result, Unsupported, UnsupportedNode};
pub use export::write;
pub use model::{Model, Options};
pub use params::Params;
