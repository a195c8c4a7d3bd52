//! Linear maps between images, as runs of equal weights along a row.

use std::sync::Arc;

use cnn_graph::ops::{AvgPool, Conv, Pool};

/// A linear map from a value `[C, H, W]` to another one.
#[derive(Debug, Clone)]
pub(crate) enum Map {
    /// The same numbers.
    Identity,
    /// Each channel's only pixel, at all pixels.
    Spread,
    /// `weight`: `[outputs, inputs / groups, rows, columns]`.
    Conv { op: Conv, weight: Arc<[f32]> },
    /// `weight`: `[outputs, inputs]`.
    Dense { weight: Arc<[f32]> },
    /// Means of windows.
    AvgPool(AvgPool),
    /// Means of parts of an image.
    AdaptiveAvgPool,
    /// The numbers of a row of features, as an image.
    Unflatten,
    /// The pixel of this index of each window, 0 in the padding.
    Tap { window: Pool, index: usize },
}

/// Equal weights of some outputs of a row: output `(o, y, x + k)` takes `weight` times input `(i, r, c + k · step)`, for
/// `k` below `length`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Run {
    pub output: [usize; 3],
    pub input: [usize; 3],
    pub step: usize,
    pub length: usize,
    pub weight: f64,
}

impl Run {
    fn pixel(output: [usize; 3], input: [usize; 3], weight: f64) -> Self {
        Self { output, input, step: 1, length: 1, weight }
    }
}

/// The outputs of a row whose window's pixel at `offset` lies in a row of `size` pixels: the first one, the pixel that
/// it has, and how many there are.
fn inside(offset: isize, stride: usize, size: usize, outputs: usize) -> (usize, usize, usize) {
    let stride_ = stride as isize;
    let first = if offset < 0 { (-offset + stride_ - 1) / stride_ } else { 0 };
    let end = if size as isize > offset { (size as isize - 1 - offset) / stride_ + 1 } else { 0 };
    let end = end.min(outputs as isize);
    let count = (end - first).max(0) as usize;
    (first as usize, (first * stride_ + offset).max(0) as usize, count)
}

impl Map {
    /// Visits all weights of the outputs of some channels, those that are zero left out.
    pub fn runs(
        &self,
        input: [usize; 3],
        output: [usize; 3],
        channels: impl Iterator<Item = usize>,
        mut visit: impl FnMut(Run),
    ) {
        let [inputs, height, width] = input;
        let [outputs, rows, columns] = output;
        for o in channels {
            match self {
                Self::Identity => {
                    for y in 0..rows {
                        let place = [o, y, 0];
                        visit(Run { output: place, input: place, step: 1, length: columns, weight: 1.0 });
                    }
                }
                Self::Spread => {
                    for (y, x) in pixels(rows, columns) {
                        visit(Run::pixel([o, y, x], [o, 0, 0], 1.0));
                    }
                }
                Self::Unflatten => {
                    for (y, x) in pixels(rows, columns) {
                        visit(Run::pixel([o, y, x], [(o * rows + y) * columns + x, 0, 0], 1.0));
                    }
                }
                Self::Dense { weight } => {
                    for (i, &w) in weight[o * inputs..][..inputs].iter().enumerate() {
                        if w != 0.0 {
                            visit(Run::pixel([o, 0, 0], [i, 0, 0], f64::from(w)));
                        }
                    }
                }
                Self::Conv { op, weight } => {
                    let (group_in, group_out) = (inputs / op.groups, outputs / op.groups);
                    let first = o / group_out * group_in;
                    let [kernel_rows, kernel_columns] = op.kernel;
                    for (i, (ky, kx)) in
                        (0..group_in).flat_map(|i| pixels(kernel_rows, kernel_columns).map(move |k| (i, k)))
                    {
                        let w = weight[((o * group_in + i) * kernel_rows + ky) * kernel_columns + kx];
                        if w == 0.0 {
                            continue;
                        }
                        let offset = |k: usize, axis: usize, before| {
                            (k * op.dilation[axis]) as isize - before as isize
                        };
                        let (y0, r0, count) =
                            inside(offset(ky, 0, op.padding.top), op.stride[0], height, rows);
                        let (x, c, length) =
                            inside(offset(kx, 1, op.padding.left), op.stride[1], width, columns);
                        for k in (0..count).filter(|_| length > 0) {
                            visit(Run {
                                output: [o, y0 + k, x],
                                input: [first + i, r0 + k * op.stride[0], c],
                                step: op.stride[1],
                                length,
                                weight: f64::from(w),
                            });
                        }
                    }
                }
                Self::Tap { window, index } => {
                    let (ky, kx) = (index / window.kernel[1], index % window.kernel[1]);
                    let offset = |k: usize, before: usize| k as isize - before as isize;
                    let (y0, r0, count) =
                        inside(offset(ky, window.padding.top), window.stride[0], height, rows);
                    let (x, c, length) =
                        inside(offset(kx, window.padding.left), window.stride[1], width, columns);
                    for k in (0..count).filter(|_| length > 0) {
                        visit(Run {
                            output: [o, y0 + k, x],
                            input: [o, r0 + k * window.stride[0], c],
                            step: window.stride[1],
                            length,
                            weight: 1.0,
                        });
                    }
                }
                Self::AvgPool(op) => {
                    let Pool { kernel, stride, padding, .. } = op.window;
                    let span = |i: usize, axis: usize, before: usize, size: usize, after: usize| {
                        let start = (i * stride[axis]) as isize - before as isize;
                        [start, (start + kernel[axis] as isize).min((size + after) as isize)]
                    };
                    let clamp = |[start, end]: [isize; 2], size: usize| {
                        start.max(0) as usize..end.clamp(0, size as isize) as usize
                    };
                    for (y, x) in pixels(rows, columns) {
                        let window_rows = span(y, 0, padding.top, height, padding.bottom);
                        let window_columns = span(x, 1, padding.left, width, padding.right);
                        let padded =
                            (window_rows[1] - window_rows[0]) * (window_columns[1] - window_columns[0]);
                        let (r, c) = (clamp(window_rows, height), clamp(window_columns, width));
                        let count = if op.count_padding { padded as usize } else { r.len() * c.len() };
                        for (r, c) in r.flat_map(|r| c.clone().map(move |c| (r, c))) {
                            visit(Run::pixel([o, y, x], [o, r, c], 1.0 / count as f64));
                        }
                    }
                }
                Self::AdaptiveAvgPool => {
                    let part = |i: usize, n: usize, size: usize| i * size / n..((i + 1) * size).div_ceil(n);
                    for (y, x) in pixels(rows, columns) {
                        let (r, c) = (part(y, rows, height), part(x, columns, width));
                        let weight = 1.0 / (r.len() * c.len()) as f64;
                        for (r, c) in r.flat_map(|r| c.clone().map(move |c| (r, c))) {
                            visit(Run::pixel([o, y, x], [o, r, c], weight));
                        }
                    }
                }
            }
        }
    }

    /// By how much rows and columns of the output are farther apart than the input's.
    pub fn stride(&self, input: [usize; 3], output: [usize; 3]) -> [usize; 2] {
        match self {
            Self::Identity | Self::Spread | Self::Unflatten | Self::Dense { .. } => [1, 1],
            Self::Conv { op, .. } => op.stride,
            Self::AvgPool(op) => op.window.stride,
            Self::Tap { window, .. } => window.stride,
            Self::AdaptiveAvgPool => [1, 2].map(|axis| (input[axis] / output[axis]).max(1)),
        }
    }
}

fn pixels(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |y| (0..columns).map(move |x| (y, x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_with_a_pixel_inside_are_counted() {
        // Offset −1, stride 2, five pixels, three outputs: the first has none.
        assert_eq!(inside(-1, 2, 5, 3), (1, 1, 2));
        assert_eq!(inside(1, 2, 5, 3), (0, 1, 2));
        assert_eq!(inside(0, 1, 5, 5), (0, 0, 5));
        assert_eq!(inside(7, 1, 5, 5).2, 0);
        assert_eq!(inside(-9, 1, 5, 5).2, 0);
    }
}
