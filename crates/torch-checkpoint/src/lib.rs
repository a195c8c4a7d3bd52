//! Tensors out of PyTorch checkpoints, without running what is pickled in them.
//!
//! [`Checkpoint::open`] reads a file of `torch.save` in either layout: the zip archive that PyTorch writes since
//! version 1.6, or the sequence of pickles before it, which many published `.pth` files still are. It lists the
//! tensors of the state_dict; [`Checkpoint::read_f32`] then reads the values of one.
//!
//! Pickles are programs. Here they only ever build plain values: of everything that a pickle can import and call,
//! `collections.OrderedDict` and the functions that make dense tensors are known, and any other import stays an
//! inert name that errors can tell. Files need not be trusted: every size is held against the file's before memory
//! is taken, nothing recurses, and a pickle that needs more than [`MAX_PICKLE_MEMORY`] is refused.
//!
//! | module | what |
//! |---|---|
//! | `checkpoint` | [`Checkpoint`], [`TensorInfo`]: from a file to values |
//! | `zip_layout`, `legacy_layout` | where the pickle and the storages lie in a file |
//! | `pickle`, `input` | the pickle machine and its bounded reader |
//! | `state_dict` | which values are tensors, and of what storage, shape and strides |
//! | `storage`, `dtype` | bytes out of the file, and float32 out of bytes |
//! | `error` | [`CheckpointError`], [`TensorError`], [`PickleError`] |
//!
//! ```
//! use torch_checkpoint::{Checkpoint, Dtype};
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/net_zip.pt");
//! let checkpoint = Checkpoint::open(path)?;
//! let conv = checkpoint.tensors().next().unwrap();
//! assert_eq!((conv.name.as_str(), conv.dtype, &conv.shape[..]), ("conv.weight", Dtype::Float32, &[4, 3, 3, 3][..]));
//! assert_eq!(checkpoint.read_f32("conv.weight")?.len(), 4 * 3 * 3 * 3);
//!
//! // A counter, not a weight.
//! let error = checkpoint.read_f32("bn.num_batches_tracked").unwrap_err();
//! assert!(error.to_string().ends_with("`bn.num_batches_tracked` is of type int64, not a float"));
//! # Ok::<(), torch_checkpoint::CheckpointError>(())
//! ```

#![forbid(unsafe_code)]

mod checkpoint;
mod dtype;
mod error;
mod input;
mod legacy_layout;
mod pickle;
mod state_dict;
mod storage;
mod zip_layout;

pub use checkpoint::{Checkpoint, TensorInfo};
pub use dtype::Dtype;
pub use error::{CheckpointError, PickleError, TensorError};
pub use pickle::MAX_PICKLE_MEMORY;
