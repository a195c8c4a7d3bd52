//! Rust for poulpy.

use super::{comment, lists};
use crate::table_file::Record;

pub(super) fn render(table: &Record) -> String {
    format!(
        "{}//!\n\
         //! For encrypted values in [-1, 1], each component in turn, with poulpy_ckks::polynomial:\n\
         //!   Polynomial::new(Basis::Chebyshev, component.to_vec())\n\n\
         /// The components in order of application.\n\
         pub const SIGN_COMPONENTS: &[&[f64]] = &[\n{}];\n",
        comment(table, "//!"),
        lists(table, "    ", "&[", "]", |c| format!("{c:?}")),
    )
}
