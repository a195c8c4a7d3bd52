//! Where the numbers of a value lie.
//!
//! An image lies in *positions*, which are numbered through all of its ciphertexts. Where a ciphertext has more slots than
//! an image needs positions, several images share it: they are interleaved, so that one rotation moves all of them alike
//! and mixes none ([`Packing`]).
//!
//! A value `[C, H, W]` lies in a grid with a gap (*multiplexed packing*; E. Lee et al., "Low-Complexity Deep
//! Convolutional Neural Networks on Fully Homomorphic Encryption Using Multiplexed Parallel Convolutions", ICML 2022,
//! section 3): a layer of stride 2 leaves its outputs where the centres of its windows are, and other channels go into
//! the gaps. So slots stay full, and a strided convolution needs no more diagonals than another one.

use serde::{Deserialize, Serialize};

/// How the slots of a ciphertext are shared by images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packing {
    /// Slots of a ciphertext.
    pub slots: usize,
    /// How many images share a ciphertext: a power of two that divides the slots.
    pub lanes: usize,
}

impl Packing {
    /// The positions that an image has in a ciphertext.
    pub fn positions(self) -> usize {
        self.slots / self.lanes
    }

    /// The slot of a position of the image in this lane.
    pub fn slot(self, position: usize, lane: usize) -> usize {
        position * self.lanes + lane
    }

    /// By how many slots a ciphertext is rotated to the left, so that `position + by` comes to `position`.
    pub fn rotation(self, by: i64) -> usize {
        by.rem_euclid(self.positions() as i64) as usize * self.lanes
    }
}

/// Where the numbers of a value `[C, H, W]` lie. Features `[F]` are an image of `F` channels of one pixel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// The address of the first pixel of each channel; `None` for a channel of zeros, which lies nowhere.
    pub bases: Vec<Option<usize>>,
    /// The distance of two rows.
    pub row_stride: usize,
    /// The distance of two columns.
    pub column_stride: usize,
    /// The width of the grid: the distance of two rows of slots, between which the gap may have more.
    pub pitch: usize,
    /// The distance of two blocks of channels.
    pub block: usize,
    /// After how many positions a ciphertext repeats itself. It does not if that is all of them.
    pub period: usize,
    /// Over how many ciphertexts the addresses go.
    pub ciphertexts: usize,
}

/// The place of a number: its ciphertext, and the position there.
pub type Place = (usize, usize);

impl Layout {
    /// The address of a number: its position, counted through all ciphertexts. `None` in a channel of zeros.
    pub fn address(&self, channel: usize, row: usize, column: usize) -> Option<usize> {
        self.bases[channel].map(|base| base + row * self.row_stride + column * self.column_stride)
    }

    /// The ciphertext of a number and its position there, of `positions` in a ciphertext.
    pub fn place(&self, [channel, row, column]: [usize; 3], positions: usize) -> Option<Place> {
        self.address(channel, row, column).map(|address| (address / positions, address % positions))
    }

    /// Rows and columns of slots between two pixels.
    pub fn gap(&self) -> [usize; 2] {
        [(self.row_stride / self.pitch).max(1), self.column_stride]
    }

    /// Addresses of all numbers in row-major order.
    pub fn addresses(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        let [_, height, width] = self.shape;
        let pixels = move |base: &Option<usize>| {
            let base = *base;
            (0..height * width).map(move |pixel| {
                Some(base? + pixel / width * self.row_stride + pixel % width * self.column_stride)
            })
        };
        self.bases.iter().flat_map(pixels)
    }

    /// The usual layout of a value in a grid of this pitch and gap: channels fill the gaps of a block, then the next block.
    /// Blocks are as far apart as leaves the period the same, so that distances of channels wrap around.
    pub fn multiplexed(shape: [usize; 3], pitch: usize, gap: [usize; 2], positions: usize) -> Self {
        let [channels, height, width] = shape;
        let pitch = pitch.max(width * gap[1]).max(1);
        let cell = gap[0] * gap[1];
        let blocks = channels.div_ceil(cell);
        let mut block = (height * gap[0] * pitch).max(1);
        let length = blocks * block;
        let (period, ciphertexts);
        if length <= positions {
            period = length.next_power_of_two();
            block = block.max(period / blocks.next_power_of_two());
            ciphertexts = 1;
        } else {
            period = positions;
            // Whole blocks in each ciphertext where that takes no more of them.
            let whole = (positions / block).max(1);
            let whole = if whole.is_power_of_two() { whole } else { whole.next_power_of_two() / 2 };
            if block <= positions && blocks.div_ceil(whole) == length.div_ceil(positions) {
                block = positions / whole;
            }
            ciphertexts = (blocks * block).div_ceil(positions);
        }
        let base = |channel: usize| {
            let sub = channel % cell;
            Some(channel / cell * block + sub / gap[1] * pitch + sub % gap[1])
        };
        Self {
            shape,
            bases: (0..channels).map(base).collect(),
            row_stride: gap[0] * pitch,
            column_stride: gap[1],
            pitch,
            block,
            period,
            ciphertexts,
        }
    }

    /// The layout of features one after the other.
    pub fn features(count: usize, positions: usize) -> Self {
        let mut layout = Self::multiplexed([count, 1, 1], 1, [1, 1], positions);
        let length = count.next_power_of_two();
        layout.bases = (0..count).map(Some).collect();
        layout.block = 1;
        layout.period = length.min(positions);
        layout.ciphertexts = count.div_ceil(positions).max(1);
        layout
    }

    /// The same places, of which channels of zeros get free ones: in the gaps of the blocks that are there. `None` if
    /// there are too few, or if pixels of a channel would not lie in the gaps.
    pub fn completed(&self) -> Option<Self> {
        let missing = self.bases.iter().filter(|base| base.is_none()).count();
        if missing == 0 {
            return Some(self.clone());
        }
        let [_, height, width] = self.shape;
        let [rows, columns] = self.gap();
        let used: std::collections::BTreeSet<usize> = self.bases.iter().flatten().copied().collect();
        let blocks: std::collections::BTreeSet<usize> = used.iter().map(|base| base / self.block).collect();
        if height * rows * self.pitch > self.block || width * columns > self.pitch {
            return None;
        }
        let places = (0..rows * columns).flat_map(|sub| {
            let offset = sub / columns * self.pitch + sub % columns;
            blocks.iter().map(move |block| block * self.block + offset)
        });
        let mut free = places.filter(|place| !used.contains(place));
        let bases: Option<Vec<usize>> =
            self.bases.iter().map(|base| base.map_or_else(|| free.next(), Some)).collect();
        Some(Self { bases: bases?.into_iter().map(Some).collect(), ..self.clone() })
    }

    /// The same numbers as features, in row-major order.
    pub fn flattened(&self) -> Self {
        let bases: Vec<Option<usize>> = self.addresses().collect();
        Self { shape: [bases.len(), 1, 1], bases, ..self.clone() }
    }

    /// Features as an image; `None` if the rows of a channel or its columns are not at equal distances.
    pub fn as_image(&self, shape: [usize; 3]) -> Option<Self> {
        let [channels, height, width] = shape;
        let pixels = height * width;
        let distance = |from: usize, to: usize| {
            let first = self.bases.chunks(pixels).find_map(|channel| Some((channel[from]?, channel[to]?)));
            first.map_or(Some(self.pitch), |(a, b)| b.checked_sub(a))
        };
        let column_stride = if width > 1 { distance(0, 1)? } else { 1 };
        let row_stride = if height > 1 { distance(0, width)? } else { self.pitch };
        let bases = (0..channels).map(|c| self.bases[c * pixels]).collect();
        let image = Self { shape, bases, row_stride, column_stride, ..self.clone() };
        image.addresses().eq(self.bases.iter().copied()).then_some(image)
    }

    /// Some of the rows, columns or channels (`axis` 1, 2, 0): those from `start` in steps of `step`, `count` of them.
    #[must_use]
    pub fn sliced(&self, axis: usize, start: usize, step: usize, count: usize) -> Self {
        let mut layout = self.clone();
        layout.shape[axis] = count;
        let offset = match axis {
            0 => {
                layout.bases = (0..count).map(|c| self.bases[start + c * step]).collect();
                0
            }
            1 => {
                layout.row_stride *= step;
                start * self.row_stride
            }
            _ => {
                layout.column_stride *= step;
                start * self.column_stride
            }
        };
        layout.bases.iter_mut().flatten().for_each(|base| *base += offset);
        layout
    }

    /// Whether both have all their numbers at the same places.
    pub fn agrees(&self, other: &Self) -> bool {
        let stride = |length: usize, a: usize, b: usize| length <= 1 || a == b;
        self.shape == other.shape
            && self.bases == other.bases
            && stride(self.shape[1], self.row_stride, other.row_stride)
            && stride(self.shape[2], self.column_stride, other.column_stride)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_numbers_share_a_place() {
        for (shape, pitch, gap, positions) in [
            ([16, 32, 32], 32, [1, 1], 16_384),
            ([32, 16, 16], 32, [2, 2], 16_384),
            ([64, 8, 8], 32, [4, 4], 16_384),
            ([6, 28, 28], 28, [1, 1], 8192),
            ([5, 9, 7], 7, [1, 1], 128), // a channel is split among ciphertexts
            ([64, 56, 56], 224, [4, 4], 32_768),
            ([3, 4, 5], 11, [3, 2], 64),
        ] {
            let layout = Layout::multiplexed(shape, pitch, gap, positions);
            let addresses: Vec<usize> = layout.addresses().flatten().collect();
            assert_eq!(addresses.len(), shape.iter().product::<usize>());
            let distinct: HashSet<usize> = addresses.iter().copied().collect();
            assert_eq!(distinct.len(), addresses.len(), "{shape:?}");
            assert!(addresses.iter().all(|a| *a < layout.ciphertexts * positions), "{shape:?}");
            assert!(layout.ciphertexts > 1 || addresses.iter().all(|a| *a < layout.period));
        }
    }

    #[test]
    fn slots_of_cifar_networks_stay_full() {
        let [a, b, c] = [([16, 32, 32], 1), ([32, 16, 16], 2), ([64, 8, 8], 4)]
            .map(|(shape, gap)| Layout::multiplexed(shape, 32, [gap; 2], 16_384).period);
        assert_eq!((a, b, c), (16_384, 8192, 4096));
    }

    #[test]
    fn zero_channels_get_the_gaps() {
        let image = Layout::multiplexed([4, 8, 8], 8, [1, 1], 256);
        let mut view = image.sliced(1, 0, 2, 4).sliced(2, 0, 2, 4);
        view.bases.insert(0, None);
        view.bases.push(None);
        view.shape[0] = 6;
        let full = view.completed().unwrap();
        assert_eq!(full.bases[1], Some(0));
        let distinct: HashSet<usize> = full.addresses().flatten().collect();
        assert_eq!(distinct.len(), 6 * 16);
        view.bases = vec![None; 40];
        assert_eq!(view.completed(), None);
    }

    #[test]
    fn a_flattened_image_is_the_image_again() {
        let image = Layout::multiplexed([3, 4, 5], 11, [3, 2], 512);
        assert!(image.flattened().as_image([3, 4, 5]).unwrap().agrees(&image));
        // Two rows of five in four rows of five columns are at unequal distances.
        assert_eq!(image.flattened().as_image([3, 2, 10]), None);
    }
}
