//! Python with NumPy.

use super::{heading, lists};
use crate::table_file::Record;

pub(super) fn render(table: &Record) -> String {
    format!(
        "\"\"\"{}\n\"\"\"\n\n\
         from numpy.polynomial.chebyshev import chebval\n\n\
         SIGN_COMPONENTS = [\n{}]\n\n\n\
         def sign(x):\n    \
             for component in SIGN_COMPONENTS:\n        \
                 x = chebval(x, component)\n    \
             return x\n\n\n\
         def relu(x, bound):\n    \
             return x * (1 + sign(x / bound)) / 2\n",
        heading(table).join("\n"),
        lists(table, "    ", "[", "]", |c| format!("{c:?}")),
    )
}
