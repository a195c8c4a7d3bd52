//! Batch norm over a batch, with an addend and an epilogue behind it.
//!
//! Layout. Images are channels-last, `[pixel][channel]`, and taken in pieces of whole pixels that a core's cache holds.
//! Numbers that belong to channels are repeated to a [`Pattern`], so that loops are long whatever the number of
//! channels. Sums are float32 in a piece and float64 over the pieces, in their order whatever the number of threads.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{CHUNK, build};
use crate::epilogue::Epilogue;
use crate::range::RangeStats;
use crate::simd::SimdLevel;

/// Numbers that a pattern has at least.
const PATTERN: usize = 512;

/// Numbers of channels, repeated.
struct Pattern(Vec<f32>);

impl Pattern {
    fn new(channels: impl ExactSizeIterator<Item = f32>) -> Self {
        let channels: Vec<f32> = channels.collect();
        Self(channels.repeat(PATTERN.div_ceil(channels.len().max(1))))
    }

    /// Of zeros.
    fn zeros(channels: usize) -> Self {
        Self::new(vec![0.0; channels].into_iter())
    }

    /// Adds up what belongs to the same channel.
    fn fold(&self, channels: usize) -> Vec<f64> {
        let mut sums = vec![0.0; channels];
        for repetition in self.0.chunks_exact(channels) {
            for (sum, &x) in sums.iter_mut().zip(repetition) {
                *sum += f64::from(x);
            }
        }
        sums
    }
}

/// Numbers in a piece: whole pixels.
fn piece(channels: usize) -> usize {
    (CHUNK / channels).max(1) * channels
}

/// Mean and biased variance of each channel.
pub(crate) fn statistics(xs: &[f32], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let of_piece = |xs: &[f32]| {
        // Distances from the first pixel, so that a mean far from zero costs no digits.
        let origin = Pattern::new(xs[..channels].iter().copied());
        let (mut sums, mut squares) = (Pattern::zeros(channels), Pattern::zeros(channels));
        SimdLevel::current().run(Moments { xs, origin: &origin, sums: &mut sums, squares: &mut squares });
        (origin, sums.fold(channels), squares.fold(channels), xs.len() / channels)
    };
    let pieces: Vec<_> = xs.par_chunks(piece(channels)).map(of_piece).collect();
    let mut means = vec![0.0; channels];
    let mut deviations = vec![0.0; channels];
    let mut before = 0.0;
    for (origin, sums, squares, count) in pieces {
        let count = count as f64;
        for c in 0..channels {
            // Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances".
            let mean = f64::from(origin.0[c]) + sums[c] / count;
            let distance = mean - means[c];
            deviations[c] += squares[c] - sums[c] * sums[c] / count
                + distance * distance * before * count / (before + count);
            means[c] += distance * count / (before + count);
        }
        before += count;
    }
    for deviation in &mut deviations {
        *deviation = (*deviation / before).max(0.0);
    }
    (means, deviations)
}

struct Moments<'a> {
    xs: &'a [f32],
    origin: &'a Pattern,
    sums: &'a mut Pattern,
    squares: &'a mut Pattern,
}

impl WithSimd for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Plain loops, here and below: inlined, they are compiled for these vector instructions.
        for xs in self.xs.chunks(self.origin.0.len()) {
            let sums = self.sums.0.iter_mut().zip(&mut self.squares.0);
            for ((sum, square), (x, origin)) in sums.zip(xs.iter().zip(&self.origin.0)) {
                let distance = x - origin;
                *sum += distance;
                *square += distance * distance;
            }
        }
    }
}

/// The affine map of each channel, and what comes behind it.
pub(crate) struct Layer<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
    pub(crate) epilogue: &'a dyn Epilogue,
}

/// What flows back through a [`Layer`] and the normalisation in it.
pub(crate) struct Backward {
    /// Of the input.
    pub(crate) xs: Vec<f32>,
    /// Of the addend, if there is one.
    pub(crate) addend: Option<Vec<f32>>,
    /// Of the affine map's output, for each channel: the sum.
    pub(crate) sums: Vec<f64>,
    /// The sum of it times the input's distance from the mean.
    pub(crate) products: Vec<f64>,
    /// What the epilogue adds to the loss.
    pub(crate) penalty: f64,
}

impl Layer<'_> {
    fn channels(&self) -> usize {
        self.scale.len()
    }

    /// `f(x · scale + shift + addend)`.
    pub(crate) fn forward(&self, xs: &[f32], addend: Option<&[f32]>) -> (Vec<f32>, RangeStats) {
        let [scale, shift] = [self.scale, self.shift].map(|c| Pattern::new(c.iter().copied()));
        let (ys, ranges) = build(xs.len(), piece(self.channels()), |start, ys| {
            let own = start..start + ys.len();
            let (xs, addend) = (&xs[own.clone()], addend.map(|a| &a[own]));
            SimdLevel::current().run(Affine { xs, scale: &scale, shift: &shift, addend, ys: &mut *ys });
            self.epilogue.apply_in_place(ys)
        });
        (ys, ranges.into_iter().fold(RangeStats::default(), RangeStats::merge))
    }

    /// The gradients from those of the result. `means` and `inverse_deviations` are those that the batch was
    /// normalised with.
    pub(crate) fn backward(
        &self,
        xs: &[f32],
        addend: Option<&[f32]>,
        means: &[f64],
        inverse_deviations: &[f64],
        gradients: &[f32],
    ) -> Backward {
        let channels = self.channels();
        let piece = piece(channels);
        let [scale, shift] = [self.scale, self.shift].map(|c| Pattern::new(c.iter().copied()));
        let mean = Pattern::new(means.iter().map(|&mean| mean as f32));
        let (inner, of_pieces) = build(xs.len(), piece, |start, inner| {
            let own = start..start + inner.len();
            let (xs, addend) = (&xs[own.clone()], addend.map(|a| &a[own.clone()]));
            let mut zs = vec![0.0; xs.len()];
            SimdLevel::current().run(Affine { xs, scale: &scale, shift: &shift, addend, ys: &mut zs });
            inner.copy_from_slice(&gradients[own]);
            let penalty = self.epilogue.gradient_in_place(&zs, inner);
            let (mut sums, mut products) = (Pattern::zeros(channels), Pattern::zeros(channels));
            let (inner, mean) = (&*inner, &mean);
            SimdLevel::current().run(Products { xs, inner, mean, sums: &mut sums, products: &mut products });
            (sums.fold(channels), products.fold(channels), penalty)
        });
        let (mut sums, mut products, mut total) = (vec![0.0; channels], vec![0.0; channels], 0.0);
        for (of_sums, of_products, penalty) in of_pieces {
            for c in 0..channels {
                sums[c] += of_sums[c];
                products[c] += of_products[c];
            }
            total += penalty;
        }

        let back = InputGradient {
            scale: self.scale,
            means,
            inverse_deviations,
            sums: &sums,
            products: &products,
            count: (xs.len() / channels) as f64,
        };
        let [of_x, constant] = [back.of_x(), back.constant()].map(|c| Pattern::new(c.into_iter()));
        let (of_xs, _) = build(xs.len(), piece, |start, result| {
            let own = start..start + result.len();
            let (xs, inner) = (&xs[own.clone()], &inner[own]);
            let task = Combine { xs, inner, of_inner: &scale, of_x: &of_x, constant: &constant, result };
            SimdLevel::current().run(task);
        });
        Backward { xs: of_xs, addend: addend.map(|_| inner), sums, products, penalty: total }
    }
}

/// The gradient of what was normalised, an affine function of the gradient `g` behind it and of x: `scale` times g, and
/// dx = scale · (g − Σg/P − (x − mean) · Σ(g (x − mean)) / (variance P)).
pub(crate) struct InputGradient<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) means: &'a [f64],
    pub(crate) inverse_deviations: &'a [f64],
    pub(crate) sums: &'a [f64],
    pub(crate) products: &'a [f64],
    /// P, the numbers of a channel.
    pub(crate) count: f64,
}

impl InputGradient<'_> {
    fn slope(&self, c: usize) -> f64 {
        self.products[c] / self.count * self.inverse_deviations[c].powi(2)
    }

    /// What x is multiplied by, for each channel.
    pub(crate) fn of_x(&self) -> Vec<f32> {
        let scales = self.scale.iter().enumerate();
        scales.map(|(c, scale)| (-f64::from(*scale) * self.slope(c)) as f32).collect()
    }

    /// What is added, for each channel.
    pub(crate) fn constant(&self) -> Vec<f32> {
        let constant = |(c, scale): (usize, &f32)| {
            f64::from(*scale) * (self.means[c] * self.slope(c) - self.sums[c] / self.count)
        };
        self.scale.iter().enumerate().map(|c| constant(c) as f32).collect()
    }
}

/// `x · scale + shift + addend`.
struct Affine<'a> {
    xs: &'a [f32],
    scale: &'a Pattern,
    shift: &'a Pattern,
    addend: Option<&'a [f32]>,
    ys: &'a mut [f32],
}

impl WithSimd for Affine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let length = self.scale.0.len();
        for (ys, xs) in self.ys.chunks_mut(length).zip(self.xs.chunks(length)) {
            let channels = self.scale.0.iter().zip(&self.shift.0);
            for ((y, x), (scale, shift)) in ys.iter_mut().zip(xs).zip(channels) {
                *y = x * scale + shift;
            }
        }
        if let Some(addend) = self.addend {
            for (y, addend) in self.ys.iter_mut().zip(addend) {
                *y += addend;
            }
        }
    }
}

struct Products<'a> {
    xs: &'a [f32],
    inner: &'a [f32],
    mean: &'a Pattern,
    sums: &'a mut Pattern,
    products: &'a mut Pattern,
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let length = self.mean.0.len();
        for (xs, inner) in self.xs.chunks(length).zip(self.inner.chunks(length)) {
            let sums = self.sums.0.iter_mut().zip(&mut self.products.0);
            for ((sum, product), ((x, g), mean)) in sums.zip(xs.iter().zip(inner).zip(&self.mean.0)) {
                *sum += g;
                *product += g * (x - mean);
            }
        }
    }
}

struct Combine<'a> {
    xs: &'a [f32],
    inner: &'a [f32],
    of_inner: &'a Pattern,
    of_x: &'a Pattern,
    constant: &'a Pattern,
    result: &'a mut [f32],
}

impl WithSimd for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let length = self.of_x.0.len();
        let inputs = self.xs.chunks(length).zip(self.inner.chunks(length));
        for (result, (xs, inner)) in self.result.chunks_mut(length).zip(inputs) {
            let factors = self.of_inner.0.iter().zip(&self.of_x.0).zip(&self.constant.0);
            for ((result, (x, g)), ((of_g, of_x), constant)) in
                result.iter_mut().zip(xs.iter().zip(inner)).zip(factors)
            {
                *result = g * of_g + x * of_x + constant;
            }
        }
    }
}
