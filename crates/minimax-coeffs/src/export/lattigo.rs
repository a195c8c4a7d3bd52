//! Go for Lattigo.

use super::{comment, lists};
use crate::table_file::Record;

pub(super) fn render(table: &Record) -> String {
    format!(
        "{}//\n\
         // For encrypted values in [-1, 1], with circuits/ckks/minimax:\n\
         //   sign := minimax.NewPolynomial(SignComponents)\n\
         package coefficients\n\n\
         // SignComponents are the components in order of application.\n\
         var SignComponents = [][]string{{\n{}}}\n",
        comment(table, "//"),
        lists(table, "\t", "{", "}", |c| if c == 0.0 { "\"0\"".to_owned() } else { format!("\"{c:e}\"") }),
    )
}
