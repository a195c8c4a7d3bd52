//! Operations that only move numbers.

use crate::ops::{Concat, Pad, Slice, Transpose};
use crate::shape::Shape;

/// Joins values along a dimension.
pub(super) fn concat(op: &Concat, parts: &[(&[f64], &Shape)]) -> Vec<f64> {
    let outer: usize = parts[0].1.dims()[..op.axis].iter().product();
    let mut out = Vec::new();
    for i in 0..outer {
        for (values, shape) in parts {
            let length: usize = shape.dims()[op.axis..].iter().product();
            out.extend_from_slice(&values[i * length..][..length]);
        }
    }
    out
}

/// Zeros around.
pub(super) fn pad(op: &Pad, x: &[f64], from: &Shape, to: &Shape) -> Vec<f64> {
    gather(x, from, to, |dim, index| index.checked_sub(op.zeros[dim][0]).filter(|i| *i < from.dims()[dim]))
}

/// Some of the indices of a dimension.
pub(super) fn slice(op: &Slice, x: &[f64], from: &Shape, to: &Shape) -> Vec<f64> {
    gather(x, from, to, |dim, index| Some(if dim == op.axis { op.start + index * op.step } else { index }))
}

/// Another order of dimensions.
pub(super) fn transpose(op: &Transpose, x: &[f64], from: &Shape, to: &Shape) -> Vec<f64> {
    let strides = strides(from);
    indices(to)
        .map(|index| x[index.iter().zip(&op.order).map(|(i, dim)| i * strides[*dim]).sum::<usize>()])
        .collect()
}

/// For each index of the output, the number at the index that `source` gives for each dimension, or zero.
fn gather(x: &[f64], from: &Shape, to: &Shape, source: impl Fn(usize, usize) -> Option<usize>) -> Vec<f64> {
    let strides = strides(from);
    indices(to)
        .map(|index| {
            let offsets = index.iter().enumerate().map(|(dim, i)| Some(source(dim, *i)? * strides[dim]));
            offsets.sum::<Option<usize>>().map_or(0.0, |offset| x[offset])
        })
        .collect()
}

/// The distance in memory of two indices of each dimension.
fn strides(shape: &Shape) -> Vec<usize> {
    (1..=shape.rank()).map(|dim| shape.dims()[dim..].iter().product()).collect()
}

/// All indices in row-major order.
fn indices(shape: &Shape) -> impl Iterator<Item = Vec<usize>> {
    let (strides, dims) = (strides(shape), shape.dims().to_vec());
    (0..shape.elements())
        .map(move |i| strides.iter().zip(&dims).map(|(stride, dim)| i / stride % dim).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_where_they_belong() {
        let (a, b) = (Shape::from([2, 1, 2]), Shape::from([2, 2, 2]));
        let (x, y) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
        let joined = concat(&Concat { axis: 1 }, &[(&x, &a), (&y, &b)]);
        assert_eq!(joined, [1.0, 2.0, 5.0, 6.0, 7.0, 8.0, 3.0, 4.0, 9.0, 10.0, 11.0, 12.0]);

        let op = Pad { zeros: vec![[1, 0], [0, 0], [0, 1]] };
        let padded = pad(&op, &x, &a, &Shape::from([3, 1, 3]));
        assert_eq!(padded, [0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 0.0]);

        let op = Slice { axis: 0, start: 1, end: 6, step: 3 };
        assert_eq!(
            slice(&op, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &Shape::from([6]), &Shape::from([2])),
            [1.0, 4.0]
        );

        let op = Transpose { order: vec![1, 2, 0] };
        let moved =
            transpose(&op, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &Shape::from([2, 3, 1]), &Shape::from([3, 1, 2]));
        assert_eq!(moved, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
