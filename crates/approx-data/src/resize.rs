//! Resizing and cropping in one, to the last bit as Pillow and torchvision do it one after the other.
//!
//! Pillow resizes 8-bit images in two passes, along rows and then along columns, with fixed-point weights and an
//! 8-bit image between the passes. (Since version 13 it begins with the columns of some tall pictures.) Only what
//! ends up in the crop is computed here.

use std::ops::Range;

use crate::decode::Picture;
use crate::image_set::RGB;

/// Fractional bits of a weight: what is left of 32 bits after 8 for a pixel and 2 for sign and overflow.
const WEIGHT_BITS: u32 = 22;
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// What an output pixel is made of, along one axis.
struct Taps {
    /// Of the first input pixel.
    start: usize,
    weights: Vec<i32>,
}

/// Weights of the triangle filter, stretched when it scales down so that every input pixel counts.
fn taps(input: usize, output: usize, wanted: Range<usize>) -> Vec<Taps> {
    let scale = input as f64 / output as f64;
    let stretch = scale.max(1.0);
    let tap = |i: usize| {
        let center = (i as f64 + 0.5) * scale;
        // A negative number becomes 0.
        let start = (center - stretch + 0.5) as usize;
        let end = ((center + stretch + 0.5) as usize).min(input);
        let weight = |x: usize| {
            let distance = ((x as f64 - center + 0.5) * (1.0 / stretch)).abs();
            (1.0 - distance).max(0.0)
        };
        let sum: f64 = (start..end).map(weight).sum();
        let fixed = |x| (weight(x) / sum * f64::from(1u32 << WEIGHT_BITS) + 0.5) as i32;
        Taps { start, weights: (start..end).map(fixed).collect() }
    };
    wanted.map(tap).collect()
}

/// One axis of the crop: which resized pixels it takes, and how far into the result they begin.
struct Axis {
    wanted: Range<usize>,
    offset: usize,
}

impl Axis {
    /// torchvision's centre: halves of a pixel are rounded to even, margins to the left.
    fn centered(resized: usize, size: usize) -> Self {
        if resized < size {
            return Self { wanted: 0..resized, offset: (size - resized) / 2 };
        }
        let twice = resized - size;
        let start = twice / 2 + usize::from(twice % 4 == 3);
        Self { wanted: start..start + size, offset: 0 }
    }
}

/// The middle `size`×`size` pixels of the picture with its shorter side resized to `resize`: `[3, size, size]`.
pub(crate) fn resized_crop(picture: &Picture, resize: usize, size: usize) -> Vec<u8> {
    let (width, height) = (picture.width, picture.height);
    let (new_width, new_height) =
        if width <= height { (resize, resize * height / width) } else { (resize * width / height, resize) };
    let (x, y) = (Axis::centered(new_width, size), Axis::centered(new_height, size));
    let columns = taps(width, new_width, x.wanted.clone());
    let rows = taps(height, new_height, y.wanted.clone());
    let first = rows[0].start;
    let last = rows.iter().map(|tap| tap.start + tap.weights.len()).max().expect("a crop has rows");

    // Along rows: only the rows that the second pass needs.
    let stride = columns.len() * RGB;
    let mut narrow = vec![0; (last - first) * stride];
    for (row, out) in (first..last).zip(narrow.chunks_mut(stride)) {
        let row = &picture.pixels[row * width * RGB..(row + 1) * width * RGB];
        match new_width == width {
            true => out.copy_from_slice(&row[x.wanted.start * RGB..][..stride]),
            false => along_row(row, &columns, out),
        }
    }

    let mut result = vec![0; RGB * size * size];
    let mut sums = vec![0; stride];
    for (i, tap) in rows.iter().enumerate() {
        sums.fill(HALF);
        if new_height == height {
            let row = &narrow[(y.wanted.start + i - first) * stride..][..stride];
            sums.iter_mut().zip(row).for_each(|(sum, &p)| *sum = i32::from(p) << WEIGHT_BITS);
        } else {
            let rows = narrow[(tap.start - first) * stride..].chunks(stride);
            for (&weight, row) in tap.weights.iter().zip(rows) {
                sums.iter_mut().zip(row).for_each(|(sum, &p)| *sum += i32::from(p) * weight);
            }
        }
        for channel in 0..RGB {
            let start = (channel * size + y.offset + i) * size + x.offset;
            let sums = sums[channel..].iter().step_by(RGB);
            result[start..start + columns.len()].iter_mut().zip(sums).for_each(|(p, &sum)| *p = to_u8(sum));
        }
    }
    result
}

fn along_row(row: &[u8], columns: &[Taps], out: &mut [u8]) {
    for (tap, out) in columns.iter().zip(out.chunks_exact_mut(RGB)) {
        let mut sums = [HALF; RGB];
        let pixels = row[tap.start * RGB..].chunks_exact(RGB);
        for (&weight, pixel) in tap.weights.iter().zip(pixels) {
            for (sum, &p) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(p) * weight;
            }
        }
        out.iter_mut().zip(sums).for_each(|(p, sum)| *p = to_u8(sum));
    }
}

/// Weights add up to one only nearly, so a sum may be a little above 255.
fn to_u8(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_where_python_rounds_it() {
        // (resized, size) -> first pixel taken, first pixel written
        for (resized, size, start, offset) in [
            (224, 224, 0, 0),
            (225, 224, 0, 0), // 0.5 -> 0
            (226, 224, 1, 0),
            (227, 224, 2, 0),  // 1.5 -> 2
            (229, 224, 2, 0),  // 2.5 -> 2
            (341, 224, 58, 0), // 58.5 -> 58
            (100, 224, 0, 62),
            (223, 224, 0, 0),
        ] {
            let axis = Axis::centered(resized, size);
            assert_eq!((axis.wanted.start, axis.offset), (start, offset), "{resized} {size}");
            assert_eq!(axis.wanted.len(), resized.min(size));
        }
    }

    #[test]
    fn a_plain_picture_stays_plain_whatever_its_shape() {
        for (width, height) in [(1, 1), (1, 500), (3000, 2), (7, 5), (256, 300), (1000, 999)] {
            let picture = Picture { width, height, pixels: [7, 255, 0].repeat(width * height) };
            let result = resized_crop(&picture, 256, 224);
            for (channel, expected) in result.chunks(224 * 224).zip([7, 255, 0]) {
                assert!(channel.iter().all(|&p| p == expected), "{width}×{height}");
            }
        }
    }
}
