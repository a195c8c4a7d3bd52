//! Poolings.

use crate::ops::{AdaptiveAvgPool, AvgPool, Padding, Pool};

/// The largest value of each window; padding never wins.
pub(super) fn max_pool(op: &Pool, x: &[f64], input: [usize; 3], output: [usize; 3]) -> Vec<f64> {
    let mut out = Vec::with_capacity(output.iter().product());
    windows(op, input, output, |window| {
        // A NaN wins, as in PyTorch.
        let larger = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
        out.push(window.pixels(x, input).fold(f64::NEG_INFINITY, larger));
    });
    out
}

/// The mean of each window.
pub(super) fn avg_pool(op: &AvgPool, x: &[f64], input: [usize; 3], output: [usize; 3]) -> Vec<f64> {
    let mut out = Vec::with_capacity(output.iter().product());
    windows(&op.window, input, output, |window| {
        let sum: f64 = window.pixels(x, input).sum();
        let count = if op.count_padding { window.padded } else { window.inside(input) };
        out.push(sum / count as f64);
    });
    out
}

/// The means of parts of an image: part `i` of `n` of a row of `size` goes from `⌊i · size / n⌋` to
/// `⌈(i + 1) · size / n⌉`.
pub(super) fn adaptive_avg_pool(op: &AdaptiveAvgPool, x: &[f64], input: [usize; 3]) -> Vec<f64> {
    let [channels, height, width] = input;
    let part = |i: usize, n: usize, size: usize| i * size / n..((i + 1) * size).div_ceil(n);
    let mut out = Vec::new();
    for image in x.chunks(height * width).take(channels) {
        for (i, j) in (0..op.size[0]).flat_map(|i| (0..op.size[1]).map(move |j| (i, j))) {
            let (rows, columns) = (part(i, op.size[0], height), part(j, op.size[1], width));
            let count = rows.len() * columns.len();
            let sum: f64 = rows.flat_map(|y| &image[y * width..][columns.clone()]).sum();
            out.push(sum / count as f64);
        }
    }
    out
}

/// The mean of each channel.
pub(super) fn global_avg_pool(x: &[f64], [_, height, width]: [usize; 3]) -> Vec<f64> {
    let pixels = height * width;
    x.chunks(pixels).map(|image| image.iter().sum::<f64>() / pixels as f64).collect()
}

/// A window over one channel. Rows and columns count from the image's first one and may lie in the padding.
struct Window {
    channel: usize,
    rows: [isize; 2],
    columns: [isize; 2],
    /// How many pixels it has, those in the padding with them; a part beyond the padding, in ceil mode, does not count.
    padded: usize,
}

impl Window {
    fn pixels<'x>(&self, x: &'x [f64], [_, height, width]: [usize; 3]) -> impl Iterator<Item = f64> + 'x {
        let image = &x[self.channel * height * width..][..height * width];
        let (rows, columns) = (clamp(self.rows, height), clamp(self.columns, width));
        rows.flat_map(move |y| &image[y * width..][columns.clone()]).copied()
    }

    fn inside(&self, [_, height, width]: [usize; 3]) -> usize {
        clamp(self.rows, height).len() * clamp(self.columns, width).len()
    }
}

fn clamp([start, end]: [isize; 2], size: usize) -> std::ops::Range<usize> {
    start.max(0) as usize..end.clamp(0, size as isize) as usize
}

fn windows(op: &Pool, input: [usize; 3], output: [usize; 3], mut visit: impl FnMut(Window)) {
    let [_, height, width] = input;
    let Padding { top, bottom, left, right } = op.padding;
    let span = |i: usize, axis: usize, before: usize, size: usize, after: usize| {
        let start = (i * op.stride[axis]) as isize - before as isize;
        [start, (start + op.kernel[axis] as isize).min((size + after) as isize)]
    };
    for channel in 0..output[0] {
        for (y, x) in (0..output[1]).flat_map(|y| (0..output[2]).map(move |x| (y, x))) {
            let (rows, columns) = (span(y, 0, top, height, bottom), span(x, 1, left, width, right));
            let padded = ((rows[1] - rows[0]) * (columns[1] - columns[0])) as usize;
            visit(Window { channel, rows, columns, padded });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: [f64; 9] = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0, -9.0];

    #[test]
    fn padding_never_wins_a_maximum() {
        let op = Pool::square(2, 2).with_padding(1);
        assert_eq!(max_pool(&op, &IMAGE, [1, 3, 3], [1, 2, 2]), [-1.0, -2.0, -4.0, -5.0]);
        assert!(max_pool(&op, &[f64::NAN; 9], [1, 3, 3], [1, 2, 2]).iter().all(|x| x.is_nan()));
        let nan_first = [f64::NAN, 1.0, 1.0, 1.0];
        assert!(max_pool(&Pool::square(2, 2), &nan_first, [1, 2, 2], [1, 1, 1])[0].is_nan());
    }

    #[test]
    fn padding_counts_in_a_mean_if_asked_for() {
        let window = Pool::square(2, 2).with_padding(1);
        let mean = |count_padding| avg_pool(&AvgPool { window, count_padding }, &IMAGE, [1, 3, 3], [1, 2, 2]);
        assert_eq!(mean(true), [-0.25, -1.25, -2.75, -7.0]);
        assert_eq!(mean(false), [-1.0, -2.5, -5.5, -7.0]);
    }

    #[test]
    fn what_ceil_mode_adds_beyond_the_padding_does_not_count() {
        let window = Pool::square(2, 2).with_ceil_mode(true);
        let op = AvgPool { window, count_padding: true };
        assert_eq!(avg_pool(&op, &IMAGE, [1, 3, 3], [1, 2, 2]), [-3.0, -4.5, -7.5, -9.0]);
    }

    #[test]
    fn adaptive_parts_overlap_where_they_must() {
        let op = AdaptiveAvgPool { size: [1, 2] };
        assert_eq!(adaptive_avg_pool(&op, &IMAGE, [1, 3, 3]), [-4.5, -5.5]);
        assert_eq!(global_avg_pool(&IMAGE, [1, 3, 3]), [-5.0]);
    }
}
