//! Weights and data sets from the network to their place in the tree.
//!
//! A committed manifest lists the artifacts, where each comes from and which files it consists of. A download
//! is resumed where it broke off, tried again with growing pauses, held against its checksum or else against what its
//! kind of file has to look like, and only then given its name; an archive is unpacked and removed. Files that are there already are kept. A [`Mirror`], a
//! directory or a web server, stands in for all sources, which is also how the tests do without a network.
//! Nothing here prints: [`Progress`] tells the caller.
//!
//! | module | what |
//! |---|---|
//! | [`fetcher`] | [`Fetcher`]: from an artifact's name to files in their place |
//! | [`manifest`] | [`Manifest`]: what there is to fetch, from `manifest.toml` |
//! | [`mirror`] | [`Mirror`]: another place to take every file from |
//! | [`download`] | [`Client`]: one file over HTTP |
//! | [`hub`] | [`HubOptions`], [`Token`]: files of the Hugging Face hub |
//! | [`unpack`] | [`Unpack`]: listed members out of a zip or tar.gz archive |
//! | [`checksum`] | [`Checksum`]: MD5 and SHA-256 |
//! | [`progress`] | [`Progress`]: how a caller follows what is going on |
//! | `terminal` | `TerminalProgress`: bars or lines, with the feature `terminal` |
//! | [`error`] | [`FetchError`] |
//!
//! ```
//! use approx_fetch::{Fetcher, Mirror};
//!
//! let (mirror, root) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! # let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/../torch-checkpoint/tests/fixtures/net_zip.pt");
//! std::fs::copy(weights, mirror.path().join("resnet20_ours.pt"))?;
//!
//! let fetcher = Fetcher::new(root.path()).with_mirror(Some(Mirror::Directory(mirror.path().into())));
//! let resnet20 = root.path().join("weights/cifar10/resnet20_ours.pt");
//! assert_eq!(fetcher.missing("cifar10-params", Some(&["resnet20"]))?, [resnet20.clone()]);
//!
//! let outcome = fetcher.fetch("cifar10-params", Some(&["resnet20"]), &mut ())?;
//! assert_eq!(outcome.fetched, [resnet20]);
//! assert!(fetcher.missing("cifar10-params", Some(&["resnet20"]))?.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod checksum;
pub mod download;
pub mod error;
pub mod fetcher;
mod files;
pub mod hub;
mod lock;
pub mod manifest;
pub mod mirror;
pub mod progress;
#[cfg(feature = "terminal")]
pub mod terminal;
pub mod unpack;
mod validate;

pub use checksum::Checksum;
pub use download::{Client, HttpOptions};
pub use error::{FetchError, Result};
pub use fetcher::{Fetcher, Outcome};
pub use hub::{HubOptions, Token};
pub use manifest::{Artifact, Entry, Manifest, Source};
pub use mirror::Mirror;
pub use progress::Progress;
pub use unpack::Unpack;
