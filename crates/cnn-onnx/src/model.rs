//! Reading a file.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use cnn_graph::Graph;
use prost::Message;

use crate::error::{OnnxError, Result};
use crate::file;
use crate::import;
use crate::params::Params;
use crate::proto::ModelProto;
use crate::tensor::Origin;

/// The versions of ONNX's operators that can be read: from those that PyTorch 1.10 wrote to the newest that this crate
/// knows.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=28;

/// A network that was read from an ONNX file.
#[derive(Debug, Clone)]
pub struct Model {
    /// The network.
    pub graph: Graph,
    /// Its parameters.
    pub params: Params,
    /// The version of ONNX's operators that the file uses.
    pub opset: i64,
    /// The program that wrote the file, with its version, such as `pytorch 2.15.0`.
    pub producer: String,
    /// What the file says about itself, by key.
    pub metadata: BTreeMap<String, String>,
}

/// What a file may leave open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Height and width of the images, for a file in which they are free; where they are not, they must be these.
    pub image_size: Option<[usize; 2]>,
}

impl Model {
    /// Reads a file.
    ///
    /// # Errors
    /// All of [`OnnxError`]'s but those of writing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Options::default())
    }

    /// Reads a file whose image size may be free.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        let bytes = file::read(path)?;
        Self::decode(Some(path), bytes, options)
    }

    /// Reads a file that is in memory and has no external data. The bytes are kept, since parameters are read from them.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        Self::decode(None, bytes.into(), &Options::default())
    }

    fn decode(path: Option<&Path>, bytes: Bytes, options: &Options) -> Result<Self> {
        let proto =
            ModelProto::decode(bytes.clone()).map_err(|error| OnnxError::Format(error.to_string()))?;
        let graph = proto.graph.ok_or_else(|| OnnxError::Format("it has no network".to_owned()))?;
        let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let opset = proto
            .opset_import
            .iter()
            .find(|set| standard(&set.domain))
            .map(|set| set.version)
            .ok_or_else(|| OnnxError::Format("it does not say which operators it uses".to_owned()))?;
        if !OPSETS.contains(&opset) {
            return Err(OnnxError::Opset { found: opset, first: *OPSETS.start(), last: *OPSETS.end() });
        }
        let (graph, params) = import::import(&graph, Origin::new(path, &bytes), options)?;
        let producer = [proto.producer_name, proto.producer_version].join(" ").trim().to_owned();
        let metadata = proto.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
        Ok(Self { graph, params, opset, producer, metadata })
    }
}
