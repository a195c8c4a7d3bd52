//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

use crate::dtype::Dtype;

/// The error of every function in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system failed.
    #[error("cannot {action} {}: {reason}", path.display())]
    Io {
        /// "open" or "read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// No file of `torch.save`.
    #[error("{}: not a PyTorch checkpoint: it begins neither as a zip archive nor as a pickle", .0.display())]
    UnknownFormat(PathBuf),
    /// The first of PyTorch's layouts.
    #[error(
        "{}: a TAR archive, as PyTorch wrote them before version 0.1.10; load it with PyTorch and save it again",
        .0.display()
    )]
    Tar(PathBuf),
    /// A zip archive that is cut short, damaged, or compressed in an unknown way.
    #[error("{}: not a readable zip archive (truncated or damaged?): {reason}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A zip archive of something else.
    #[error("{}: a zip archive without data.pkl, so not a PyTorch checkpoint", .0.display())]
    NoPickle(PathBuf),
    /// Numbers with their most significant byte first.
    #[error("{}: written on a big-endian machine, which is not supported", .0.display())]
    BigEndian(PathBuf),
    /// A pickle that cannot be followed.
    #[error("{}: malformed pickle, opcode at byte {offset}: {problem}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// Where the opcode is, from the start of the file (legacy) or of data.pkl (zip).
        offset: u64,
        /// What is wrong with it.
        problem: PickleError,
    },
    /// A legacy file, parts of which are not what they should be.
    #[error("{}: malformed: {part} is {found}, not {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The part of the file.
        part: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A legacy file that ends within its values.
    #[error("{}: truncated: storage '{key}' takes {needed} bytes, and {left} are left", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The name of the storage.
        key: String,
        /// How many bytes its values and their count take.
        needed: u64,
        /// How many there are.
        left: u64,
    },
    /// A checkpoint of something else than tensors by name.
    #[error(
        "{}: holds {found}; a state_dict is needed, as saved by torch.save(model.state_dict(), …)",
        path.display()
    )]
    NotAStateDict {
        /// The file.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// A value of the state_dict that cannot be read as a tensor.
    #[error("{}: `{name}` {problem}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The key.
        name: String,
        /// What is wrong with it.
        problem: TensorError,
    },
    /// A tensor that was asked for and is not there.
    #[error("{}: there is no tensor `{name}`", path.display())]
    UnknownTensor {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

/// What is wrong with a tensor; each text goes on from the tensor's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// Another kind of value.
    #[error("is {0}, not a tensor")]
    NotATensor(String),
    /// The result of a function, or an object of a class, that is not known here.
    #[error("is a pickled `{0}`, not a tensor; no code is run")]
    Object(String),
    /// A tensor that is not dense.
    #[error("is a {0} tensor, which is not supported")]
    Kind(&'static str),
    /// Arguments that no tensor has.
    #[error("is malformed: its {part} is {found}")]
    Malformed {
        /// Which argument.
        part: &'static str,
        /// What it is.
        found: String,
    },
    /// Values of an unknown type.
    #[error("is in a `{0}`, which is not supported")]
    StorageType(String),
    /// Values that are not in the file.
    #[error("is in storage '{0}', which the file lacks")]
    MissingStorage(String),
    /// As many elements as no memory can have.
    #[error("has the shape {0:?}, which overflows")]
    Overflow(Vec<usize>),
    /// Elements that are not in the storage.
    #[error("ends at element {end} of a storage of {available}")]
    OutOfStorage {
        /// One more than the last element's index.
        end: u128,
        /// How many elements there are.
        available: u64,
    },
    /// Elements that are stored once and occur several times in the tensor.
    #[error(
        "has {elements} elements in a storage of {available} (an expanded view?); save a copy (`tensor.clone()`)"
    )]
    Expanded {
        /// How many elements the tensor has.
        elements: usize,
        /// How many elements there are.
        available: u64,
    },
    /// Integers, booleans or complex numbers where floats were asked for.
    #[error("is of type {0}, not a float")]
    NotFloat(Dtype),
    /// Values that are damaged, or a file that is no longer what it was.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
}

/// What is wrong with a pickle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The file ends, or a length is wrong.
    #[error("{needed} bytes are needed, and {left} are left")]
    Truncated {
        /// How many bytes the opcode asks for.
        needed: u64,
        /// How many there are.
        left: u64,
    },
    /// A protocol of the future.
    #[error("pickle protocol {0} is unknown")]
    Protocol(u8),
    /// An opcode that does not exist, or that PyTorch does not use.
    #[error("opcode {0:#04x} is not supported")]
    Opcode(u8),
    /// An opcode that takes more values than there are.
    #[error("the stack is empty")]
    EmptyStack,
    /// An opcode that takes all values up to a mark, without a mark.
    #[error("there is no mark")]
    NoMark,
    /// A value that was never memoized.
    #[error("the memo has no entry {0}")]
    UnknownMemo(u64),
    /// An opcode for another kind of value.
    #[error("{expected} is needed, not {found}")]
    Kind {
        /// What the opcode needs.
        expected: &'static str,
        /// What it got.
        found: String,
    },
    /// Text that does not say what it should.
    #[error("malformed {0}")]
    Text(&'static str),
    /// More values than any checkpoint has.
    #[error("more than {0} bytes of memory are needed")]
    TooLarge(usize),
    /// The file system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A [`PickleError`] with its place.
#[derive(Debug)]
pub(crate) struct PickleFault {
    pub offset: u64,
    pub problem: PickleError,
}

impl PickleFault {
    pub(crate) fn at(self, path: &Path) -> CheckpointError {
        CheckpointError::Pickle { path: path.to_owned(), offset: self.offset, problem: self.problem }
    }
}

impl CheckpointError {
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |reason| Self::Io { action, path: path.to_owned(), reason }
    }
}
