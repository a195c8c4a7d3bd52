//! What the programs share.
//!
//! | module | what |
//! |---|---|
//! | [`device`] | the CPU or a GPU |
//! | [`inputs`] | finds weights and data, and fetches what is missing |
//! | [`options`] | values of options |
//! | [`program`] | from `main` to an exit code |
//!
//! ```
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     approx_cli::program::run(0, || {
//!         approx_cli::program::print("hello\n")?;
//!         Ok(ExitCode::SUCCESS)
//!     })
//! }
//! ```

#![forbid(unsafe_code)]

/// The system's allocator gives a large tensor's memory back whenever one is dropped, and takes it again, page by page,
/// for the next, which takes a quarter of the time of training (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod device;
pub mod inputs;
pub mod options;
pub mod program;
