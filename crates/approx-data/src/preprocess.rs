//! From encoded pictures to 8-bit images of one size, and from these to what networks take.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::decode::decode;
use crate::error::{DataError, Result};
use crate::image_set::RGB;
use crate::resize::resized_crop;

/// Per-channel normalisation: a pixel `p` in 0..=255 becomes `(p / 255 − mean) / std`.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    mean: Cow<'static, [f32]>,
    std: Cow<'static, [f32]>,
}

impl Normalization {
    /// What the reference trains and evaluates CIFAR-10 networks with.
    pub const CIFAR10: Self = Self::of(&[0.4914, 0.4822, 0.4465], &[0.2023, 0.1994, 0.2010]);

    /// Mean and standard deviation of all pixels of CIFAR-100's training images, which is what networks for it are
    /// usually trained with.
    pub const CIFAR100: Self = Self::of(&[0.5071, 0.4865, 0.4409], &[0.2673, 0.2564, 0.2762]);

    /// What torchvision's ImageNet networks are trained with.
    pub const IMAGENET: Self = Self::of(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);

    /// Mean and standard deviation of all pixels of MNIST's training images, as PyTorch's example has them.
    pub const MNIST: Self = Self::of(&[0.1307], &[0.3081]);

    /// The same of Fashion-MNIST's.
    pub const FASHION_MNIST: Self = Self::of(&[0.2860], &[0.3530]);

    const fn of(mean: &'static [f32], std: &'static [f32]) -> Self {
        Self { mean: Cow::Borrowed(mean), std: Cow::Borrowed(std) }
    }

    /// Mean and standard deviation of each channel.
    ///
    /// # Panics
    /// If there are not as many of one as of the other.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Self {
        assert_eq!(mean.len(), std.len(), "a mean and a standard deviation for each channel");
        Self { mean: mean.into(), std: std.into() }
    }

    /// Of each channel, on the scale 0 to 1.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Of each channel, on the scale 0 to 1.
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// How many channels.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// What each pixel value of `channel` becomes.
    pub fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|p| (p as f32 / 255.0 - self.mean[channel]) / self.std[channel])
    }

    /// Normalises images, `[n, channels, height, width]` in row-major order.
    ///
    /// # Panics
    /// If this is for another number of channels, or the length of `pixels` is no multiple of an image's.
    pub fn apply(&self, pixels: &[u8], [channels, height, width]: [usize; 3]) -> Vec<f32> {
        assert_eq!(
            channels,
            self.channels(),
            "a mean and a standard deviation for each channel of the images"
        );
        let plane = (height * width).max(1);
        assert!(pixels.len().is_multiple_of(channels * plane), "images are whole");
        let tables: Vec<[f32; 256]> = (0..channels).map(|channel| self.table(channel)).collect();
        let mut values = vec![0.0; pixels.len()];
        let planes = values.par_chunks_mut(plane).zip(pixels.par_chunks(plane));
        planes.enumerate().for_each(|(index, (values, pixels))| {
            let table = &tables[index % channels];
            for (value, &pixel) in values.iter_mut().zip(pixels) {
                *value = table[usize::from(pixel)];
            }
        });
        values
    }
}

/// How a picture of any size becomes one of `size`×`size` pixels: as by torchvision's `Resize(resize)` and
/// `CenterCrop(size)` on what Pillow's `Image.open(file).convert("RGB")` gives.
///
/// So the shorter side is resized to `resize` with Pillow's antialiased bilinear filter; transparency is dropped,
/// not composited; orientation and colour profiles are ignored; where the crop is larger than the picture, the
/// margin is black. JPEG, PNG, WebP, BMP and PNM are read, by what they contain and not by how they are called.
///
/// # Accuracy
/// Lossless formats give the very bytes of torchvision with Pillow up to 12. (Pillow 13 resizes some tall pictures
/// along the other axis first, which makes a level of difference.) JPEG leaves the decoder some freedom: of this
/// crate's test pictures no value differs by more than 4 levels from libjpeg-turbo's, and by 0.3 in the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preprocess {
    resize: usize,
    size: usize,
}

impl Preprocess {
    /// What most of torchvision's ImageNet networks are evaluated with.
    pub const IMAGENET: Self = Self { resize: 256, size: 224 };

    /// The largest number of pixels that `resize` and `size` can be.
    pub const LARGEST: usize = 8192;

    /// Resizes the shorter side to `resize`, then crops to `size`×`size`, both in pixels.
    ///
    /// # Errors
    /// [`DataError::Preprocess`] if one is 0 or above [`LARGEST`](Self::LARGEST).
    pub fn new(resize: usize, size: usize) -> Result<Self> {
        let largest = Self::LARGEST;
        match [resize, size].iter().all(|pixels| (1..=largest).contains(pixels)) {
            true => Ok(Self { resize, size }),
            false => Err(DataError::Preprocess { resize, size, largest }),
        }
    }

    /// Pixels of the shorter side before cropping.
    pub fn resize(self) -> usize {
        self.resize
    }

    /// Height and width of the result.
    pub fn size(self) -> usize {
        self.size
    }

    /// Channels, height and width of the result: `[3, size, size]`.
    pub fn shape(self) -> [usize; 3] {
        [RGB, self.size, self.size]
    }

    /// Decodes, resizes and crops a picture; errors call it `name`.
    ///
    /// # Shapes
    /// The result: [`shape`](Self::shape) in row-major order.
    ///
    /// # Errors
    /// [`DataError::Undecodable`]
    pub fn image(self, name: &str, encoded: &[u8]) -> Result<Vec<u8>> {
        let picture =
            decode(encoded).map_err(|reason| DataError::Undecodable { name: name.to_owned(), reason })?;
        Ok(resized_crop(&picture, self.resize, self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_sizes_are_errors() {
        for (resize, size) in [(0, 224), (256, 0), (8193, 224), (256, usize::MAX)] {
            let error = Preprocess::new(resize, size).unwrap_err().to_string();
            assert!(error.contains(&format!("resized to {resize} and cropped to {size}")), "{error}");
        }
        assert_eq!(Preprocess::new(256, 224).unwrap(), Preprocess::IMAGENET);
    }
}
