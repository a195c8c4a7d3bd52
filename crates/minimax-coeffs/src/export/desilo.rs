//! Python for DESILO FHE.

use super::{heading, lists};
use crate::table_file::Record;

pub(super) fn render(table: &Record) -> String {
    let disturbed = table.certificates.last().unwrap_or(&table.certificates[0]);
    format!(
        "\"\"\"{}\n\"\"\"\n\n\
         RELU_DEPTH = {}\n\
         RELU_ERROR = {:e}  # proven, for values in [-1, 1]\n\
         RELU_ERROR_DISTURBED = {:e}  # the same, with outputs disturbed by up to\n\
         DELTA = {:e}\n\
         SIGN_COMPONENTS = [\n{}]\n\n\n\
         def sign(engine, x, relinearization_key):\n    \
             \"\"\"For an encrypted x in [-1, 1].\"\"\"\n    \
             for component in SIGN_COMPONENTS:\n        \
                 x = engine.evaluate_chebyshev_polynomial(x, component, relinearization_key)\n    \
             return x\n\n\n\
         def relu(engine, x, relinearization_key):\n    \
             \"\"\"For an encrypted x in [-1, 1].\"\"\"\n    \
             s = engine.add(sign(engine, x, relinearization_key), 1.0)\n    \
             return engine.multiply(engine.multiply(x, 0.5), s, relinearization_key)\n",
        heading(table).join("\n"),
        table.relu_cost.depth,
        table.certificates[0].relu_error,
        disturbed.relu_error,
        disturbed.delta,
        lists(table, "    ", "[", "]", |c| format!("{c:?}")),
    )
}
