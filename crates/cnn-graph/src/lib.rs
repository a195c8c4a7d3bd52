//! Convolutional networks as data.
//!
//! A [`Graph`] is a list of typed nodes in topological order. Each node has the name that its weights have, an
//! [operation](ops::Op) from a closed set, its inputs, and the shape of its output, which is inferred. Parameters are
//! specified by name and shape, but not loaded: this crate depends on no tensor library. Whoever runs, trains, exports or
//! encrypts a network walks the same graph.
//!
//! | module | what |
//! |---|---|
//! | [`graph`] | [`Graph`], [`Node`], [`ValueId`], [`ParamSpec`] |
//! | [`ops`] | the operations, a file each, with their shape inference |
//! | [`builder`] | [`GraphBuilder`]: a network's definition reads like its forward pass |
//! | [`passes`] | fusion, folding, depth, liveness, dead nodes |
//! | [`policy`] | [`ActivationPolicy`](policy::ActivationPolicy): what stands at each site; its polynomials and their cost |
//! | [`reference`](mod@reference) | a network in float64 by plain loops: the truth for whoever runs it faster |
//! | [`zoo`] | the backbones of the papers, by data set and name |
//!
//! ```
//! use cnn_graph::zoo::Backbone;
//!
//! let graph = Backbone::find("cifar10", "resnet20")?.graph()?;
//! assert_eq!(graph.input_shape().dims(), [3, 32, 32]);
//! assert_eq!(graph.output_shape().dims(), [10]);
//! assert_eq!(graph.sites().count(), 19);
//! let conv = graph.find("layer2.0.conv1").unwrap();
//! assert_eq!(graph.node(conv).shape.dims(), [32, 16, 16]);
//! # Ok::<(), cnn_graph::GraphError>(())
//! ```

#![forbid(unsafe_code)]

pub mod builder;
pub mod error;
pub mod graph;
pub mod ops;
pub mod passes;
pub mod policy;
pub mod reference;
pub mod shape;
pub mod zoo;

pub use builder::GraphBuilder;
pub use error::{GraphError, Result};
pub use graph::{Graph, Node, ParamSpec, ValueId};
pub use shape::Shape;
