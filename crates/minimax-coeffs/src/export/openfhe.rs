//! C++ for OpenFHE.

use super::{comment, lists};
use crate::table_file::Record;

/// OpenFHE halves the coefficient of `T_0`; here that is 0.
pub(super) fn render(table: &Record) -> String {
    format!(
        "{}//\n\
         // For an encrypted x in [-1, 1]:\n\
         //   auto s = x;\n\
         //   for (const auto& component : SIGN_COMPONENTS) s = cc->EvalChebyshevSeries(s, component, -1.0, 1.0);\n\
         //   auto relu = cc->EvalMult(cc->EvalMult(x, 0.5), cc->EvalAdd(s, 1.0));\n\
         #pragma once\n\n\
         #include <vector>\n\n\
         const std::vector<std::vector<double>> SIGN_COMPONENTS = {{\n{}}};\n",
        comment(table, "//"),
        lists(table, "    ", "{", "}", |c| format!("{c:?}")),
    )
}
