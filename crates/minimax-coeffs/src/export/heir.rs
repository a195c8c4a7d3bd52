//! Attributes of HEIR's polynomial dialect.

use super::{comment, numbers};
use crate::table_file::Record;

const ATTRIBUTE: &str = "#polynomial.typed_chebyshev_polynomial<[";

pub(super) fn render(table: &Record) -> String {
    let line = |(i, c): (usize, &Vec<f64>)| {
        let numbers: Vec<String> = c.iter().map(|&c| float(c)).collect();
        format!("#sign_{} = {ATTRIBUTE}{}]> : !poly_f64\n", i + 1, numbers.join(", "))
    };
    let components = table.components.iter().map(|c| &c.chebyshev).enumerate().map(line);
    format!(
        "{}//\n\
         // For x in [-1, 1], each component in turn:\n\
         //   %y = polynomial.eval #sign_1, %x {{domain_lower = -1.0 : f64, domain_upper = 1.0 : f64}} : f64\n\
         !poly_f64 = !polynomial.polynomial<ring=<coefficientType=f64>>\n{}",
        comment(table, "//"),
        components.collect::<String>(),
    )
}

pub(super) fn read(text: &str) -> Result<Vec<Vec<f64>>, String> {
    let lists = text.split(ATTRIBUTE).skip(1);
    lists.map(|rest| numbers(rest.split_once(']').ok_or("a list does not end")?.0)).collect()
}

/// MLIR's numbers have a decimal point.
fn float(x: f64) -> String {
    let text = format!("{x:?}");
    match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0e{exponent}"),
        _ => text,
    }
}
