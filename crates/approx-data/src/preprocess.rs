//! From 8-bit images to what networks take.

/// Per-channel normalisation: a pixel `p` in 0..=255 becomes `(p / 255 − mean) / std`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Of each channel, on the scale 0 to 1.
    pub mean: [f32; 3],
    /// Of each channel, on the scale 0 to 1.
    pub std: [f32; 3],
}

impl Normalization {
    /// What the reference trains and evaluates CIFAR-10 networks with.
    pub const CIFAR10: Self = Self { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.2010] };

    /// What each pixel value of `channel` becomes.
    pub fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|p| (p as f32 / 255.0 - self.mean[channel]) / self.std[channel])
    }
}
