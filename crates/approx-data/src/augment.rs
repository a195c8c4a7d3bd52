//! Random variations of images, for training.

use rand::Rng;

/// What is done to an image before a network is trained with it: as by torchvision's
/// `RandomCrop(size, padding=crop_padding)` and `RandomHorizontalFlip()` on pictures.
///
/// The padding is black: pixels of 0, and whatever these are after normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Augmentation {
    /// Pixels that are added on every side before a window of the old size is cut out somewhere; 0 for none.
    pub crop_padding: usize,
    /// Whether every other image is mirrored, left to right.
    pub flip: bool,
}

impl Augmentation {
    /// The reference's for CIFAR-10.
    pub const REFERENCE: Self = Self { crop_padding: 4, flip: true };
    /// Images as they are.
    pub const NONE: Self = Self { crop_padding: 0, flip: false };

    /// Appends a variation of `image` to `out`.
    ///
    /// # Shapes
    /// `image` and what is appended: `[channels, height, width]` in row-major order.
    ///
    /// # Panics
    /// If the length of `image` is another.
    pub fn apply(
        &self,
        image: &[u8],
        [channels, height, width]: [usize; 3],
        random: &mut impl Rng,
        out: &mut Vec<u8>,
    ) {
        assert_eq!(image.len(), channels * height * width, "image and shape do not fit");
        // The window's place in the padded image.
        let top = random.random_range(0..=2 * self.crop_padding);
        let left = random.random_range(0..=2 * self.crop_padding);
        let flip = self.flip && random.random_bool(0.5);
        for channel in image.chunks_exact((height * width).max(1)) {
            for y in top..top + height {
                let row = y.checked_sub(self.crop_padding).filter(|&y| y < height);
                let pixel = |x: usize| match (row, x.checked_sub(self.crop_padding)) {
                    (Some(y), Some(x)) if x < width => channel[y * width + x],
                    _ => 0,
                };
                match flip {
                    false => out.extend((left..left + width).map(pixel)),
                    true => out.extend((left..left + width).rev().map(pixel)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::stream;

    /// `[3, 2, 3]`, no two pixels alike, none black.
    const IMAGE: [u8; 18] = [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 21, 22, 23, 24, 25, 26];

    fn variations(augmentation: Augmentation, count: usize) -> Vec<Vec<u8>> {
        let variation = |index| {
            let mut out = Vec::new();
            augmentation.apply(&IMAGE, [3, 2, 3], &mut stream(1, "augment", 0, index), &mut out);
            out
        };
        (0..count).map(variation).collect()
    }

    #[test]
    fn every_window_of_the_padded_image_and_its_mirror_image_occurs() {
        let mut expected = BTreeSet::new();
        for (dy, dx, flip) in
            (-1..=1).flat_map(|dy| (-1..=1).flat_map(move |dx| [(dy, dx, false), (dy, dx, true)]))
        {
            let pixel = |channel: i32, y: i32, x: i32| {
                let (y, x) = (y + dy, if flip { 2 - x } else { x } + dx);
                match (0..2).contains(&y) && (0..3).contains(&x) {
                    true => IMAGE[(channel * 6 + y * 3 + x) as usize],
                    false => 0,
                }
            };
            expected.insert((0..18).map(|i| pixel(i / 6, i / 3 % 2, i % 3)).collect::<Vec<u8>>());
        }
        assert_eq!(expected.len(), 18);
        let found: BTreeSet<_> =
            variations(Augmentation { crop_padding: 1, flip: true }, 500).into_iter().collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn without_augmentation_images_stay_as_they_are() {
        assert!(variations(Augmentation::NONE, 20).iter().all(|image| image == &IMAGE));
    }

    #[test]
    fn windows_and_mirror_images_are_equally_likely() {
        let (count, mut flipped, mut corners) = (20_000, 0, 0);
        for image in variations(Augmentation { crop_padding: 1, flip: true }, count) {
            let rows: Vec<_> = image[..6].chunks(3).collect();
            // Which way the numbers of a row grow.
            flipped += usize::from(rows.iter().any(|row| row.windows(2).any(|w| w[0] > w[1] && w[1] != 0)));
            corners += usize::from(image[..6] == [0, 0, 0, 0, 1, 2]);
        }
        let share = |n: usize| n as f64 / count as f64;
        assert!((share(flipped) - 0.5).abs() < 0.02, "{}", share(flipped));
        assert!((share(corners) - 1.0 / 18.0).abs() < 0.01, "{}", share(corners));
    }
}
