//! Sums of products: convolutions and linear layers.

use std::thread;

use crate::ops::{Conv, Linear};

/// A convolution, an output channel at a time.
pub(super) fn conv(
    op: &Conv,
    x: &[f64],
    input: [usize; 3],
    output: [usize; 3],
    params: &[Vec<f32>],
) -> Vec<f64> {
    let [channels, height, width] = input;
    let [outputs, rows, columns] = output;
    let (group_in, group_out) = (channels / op.groups, outputs / op.groups);
    let [kernel_rows, kernel_columns] = op.kernel;
    let plane = |o: usize, out: &mut [f64]| {
        out.fill(params.get(1).map_or(0.0, |bias| f64::from(bias[o])));
        let first = o / group_out * group_in;
        for i in 0..group_in {
            let image = &x[(first + i) * height * width..][..height * width];
            for (ky, kx) in (0..kernel_rows).flat_map(|ky| (0..kernel_columns).map(move |kx| (ky, kx))) {
                let weight = params[0][((o * group_in + i) * kernel_rows + ky) * kernel_columns + kx];
                let weight = f64::from(weight);
                for oy in 0..rows {
                    let y = (oy * op.stride[0] + ky * op.dilation[0]).checked_sub(op.padding.top);
                    let Some(y) = y.filter(|y| *y < height) else { continue };
                    let row = &image[y * width..][..width];
                    for (ox, sum) in out[oy * columns..][..columns].iter_mut().enumerate() {
                        let x = (ox * op.stride[1] + kx * op.dilation[1]).wrapping_sub(op.padding.left);
                        if let Some(pixel) = row.get(x) {
                            *sum += weight * pixel;
                        }
                    }
                }
            }
        }
    };
    let mut out = vec![0.0; outputs * rows * columns];
    in_parallel(&mut out, rows * columns, plane);
    out
}

/// A linear layer.
pub(super) fn linear(op: &Linear, x: &[f64], params: &[Vec<f32>]) -> Vec<f64> {
    let mut out = vec![0.0; op.outputs];
    in_parallel(&mut out, 1, |o, out| {
        let weights = &params[0][o * x.len()..][..x.len()];
        let bias = params.get(1).map_or(0.0, |bias| f64::from(bias[o]));
        out[0] = bias + weights.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
    });
    out
}

/// Calls `compute` with the index of each part of `out` of this length, on all cores.
fn in_parallel(out: &mut [f64], length: usize, compute: impl Fn(usize, &mut [f64]) + Sync) {
    let threads = thread::available_parallelism().map_or(1, |n| n.get());
    let parts = (out.len() / length.max(1)).div_ceil(threads).max(1);
    thread::scope(|scope| {
        for (t, chunk) in out.chunks_mut(parts * length.max(1)).enumerate() {
            let compute = &compute;
            scope.spawn(move || {
                for (i, part) in chunk.chunks_mut(length.max(1)).enumerate() {
                    compute(t * parts + i, part);
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Padding;

    #[test]
    fn a_convolution_multiplies_each_window() {
        // A 3×3 image and a 2×2 kernel.
        let x: Vec<f64> = (1..=9).map(f64::from).collect();
        let params = [vec![1.0, 0.0, 0.0, 10.0], vec![0.5]];
        let op = Conv::new(1, [2, 2]).with_bias();
        assert_eq!(conv(&op, &x, [1, 3, 3], [1, 2, 2], &params), [51.5, 62.5, 84.5, 95.5]);
        // Zeros above and to the left only, stride 2: the windows end at pixels 1, 3, 7 and 9.
        let op = Conv { padding: Padding { top: 1, left: 1, ..Padding::ZERO }, stride: [2, 2], ..op };
        assert_eq!(conv(&op, &x, [1, 3, 3], [1, 2, 2], &params), [10.5, 30.5, 70.5, 95.5]);
        // Dilation 2: the corners.
        let op = Conv { dilation: [2, 2], ..Conv::new(1, [2, 2]) };
        assert_eq!(conv(&op, &x, [1, 3, 3], [1, 1, 1], &params[..1]), [91.0]);
    }

    #[test]
    fn groups_do_not_see_each_other() {
        let op = Conv::new(4, [1, 1]).with_groups(2);
        let weight = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let out = conv(&op, &[1.0, 10.0, 100.0, 1000.0], [4, 1, 1], [4, 1, 1], &[weight]);
        assert_eq!(out, [21.0, 43.0, 6500.0, 8700.0]);
    }
}
