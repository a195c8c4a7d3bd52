//! What the programs share.
//!
//! | module | what |
//! |---|---|
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

pub mod inputs;
pub mod options;
pub mod program;
