//! ReLU and max-pooling as an encrypted evaluation would give them: with the noise of CKKS.
//!
//! # Model
//! Every rescaling adds a Gaussian error with mean 0 and standard deviation `sigma` to each value, independently, in units
//! of the message as it is held encrypted ([`minimax_coeffs::noise`], with the source):
//!
//! - the input, held as `x / B`, has the error of the linear layer that it comes from; max-pooling's, held as `c·x + 1/2`,
//!   that of this map;
//! - the output of each component of the composition has the errors of all its rescalings, by what they are amplified;
//! - the product with the sign function has one.
//!
//! Key switching adds less than the rescaling that follows it, and is left out.
//!
//! # Accuracy
//! Within an op all is float64. The results are float32 between layers, so noise below about `2^-24` is lost in their
//! rounding.
//!
//! # Random numbers
//! They depend on the seed, the name of the site and the values of the image itself: the same image gets the same noise in
//! whatever batch and on whatever thread, and another one gets another.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use cnn_kernels::tensor::dense_channels_last;
use cnn_kernels::{PoolSpec, RangeStats, SimdLevel, check_dtype};
use minimax_coeffs::noise::{NoisyComponent, NoisyPolynomial};
use minimax_coeffs::{CompositeSign, FittedPolynomial, NestedForm};
use pulp::{Simd, WithSimd};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use crate::error::{Result, check_bound};
use crate::range::RangeRecorder;
use crate::reference;

/// How much noise, and which.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// The standard deviation that a rescaling adds, in units of the encrypted message.
    pub sigma: f64,
    /// Of the random numbers.
    pub seed: u64,
}

impl Noise {
    /// Noise with a standard deviation of `2^-bits`.
    pub fn of_bits(bits: f64, seed: u64) -> Self {
        Self { sigma: (-bits).exp2(), seed }
    }

    /// `-log2` of the standard deviation.
    pub fn bits(self) -> f64 {
        -self.sigma.log2()
    }

    /// The random numbers of an image at a site.
    fn stream(self, site: &str, image: &[f32]) -> ChaCha8Rng {
        let bytes = self.seed.to_le_bytes().into_iter().chain(site.bytes());
        let words = image.iter().map(|x| u64::from(x.to_bits()));
        let key = bytes
            .map(u64::from)
            .chain(words)
            .fold(FNV_BASIS, |hash, word| (hash ^ word).wrapping_mul(FNV_PRIME));
        ChaCha8Rng::seed_from_u64(key)
    }

    /// Adds the noise of a last rescaling to values that are held in units of `unit`.
    ///
    /// # Shapes
    /// `xs`: `[N, …]`; the result has the same.
    ///
    /// # Errors
    /// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), or candle's own.
    pub fn add_to(self, xs: &Tensor, unit: f64, site: &str) -> Result<Tensor> {
        check_dtype("noise", xs.dtype())?;
        let spread = self.sigma * unit;
        by_image(xs, |image| {
            let mut rng = self.stream(site, image);
            image
                .iter()
                .map(|x| (f64::from(*x) + spread * rng.sample::<f64, _>(StandardNormal)) as f32)
                .collect()
        })
    }
}

/// The Fowler–Noll–Vo hash FNV-1a, here over words.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// Outputs of a component that lie outside the next one's domain, where that is no approximation any more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Excursions {
    /// Which component's output, 1-based.
    pub component: usize,
    /// How many values.
    pub count: u64,
    /// The largest of them in absolute value.
    pub largest: f64,
    /// What it should not exceed: the largest value of the component without noise, and the margin of the table.
    pub domain: f64,
}

/// A composition under noise, for arguments in `[-1, 1]`.
#[derive(Debug)]
struct NoisySign {
    components: Vec<Component>,
}

#[derive(Debug)]
struct Component {
    form: NestedForm,
    noise: NoisyComponent,
    /// Values beyond this, in units of the next component's radius, leave its domain.
    limit: f64,
}

/// Values that are evaluated side by side.
const BLOCK: usize = 16;

impl NoisySign {
    fn new(sign: &CompositeSign) -> Self {
        let component = |(polynomial, noise): (_, NoisyComponent)| Component {
            form: NestedForm::new(polynomial, noise.radius),
            limit: 1.0 + sign.margin() / noise.next_radius,
            noise,
        };
        let mut components: Vec<Component> =
            sign.components().iter().zip(NoisyComponent::all(sign)).map(component).collect();
        // After the last one there is no domain to leave.
        components.last_mut().expect("a composition has a component").limit = f64::INFINITY;
        Self { components }
    }

    /// `s(z)` under noise. The largest values of each component go to `largest`.
    #[inline(always)]
    fn eval<const N: usize>(
        &self,
        mut z: [f64; N],
        sigma: f64,
        rng: &mut ChaCha8Rng,
        seen: &mut [(u64, f64)],
    ) -> [f64; N] {
        for (component, (count, largest)) in self.components.iter().zip(seen) {
            let Component { form, noise, limit } = component;
            let mut spread = [0.0; N];
            for i in 0..N {
                spread[i] = sigma * noise.amplification(z[i]) * rng.sample::<f64, _>(StandardNormal);
            }
            let (mut t, mut u) = ([0.0; N], [0.0; N]);
            for i in 0..N {
                t[i] = 2.0 * z[i] * z[i] - 1.0;
                u[i] = 2.0 * t[i] * t[i] - 1.0;
            }
            let (mut even, mut odd) = ([0.0; N], [0.0; N]);
            for &c in form.even().iter().rev() {
                for i in 0..N {
                    even[i] = even[i] * u[i] + c;
                }
            }
            for &c in form.odd().iter().rev() {
                for i in 0..N {
                    odd[i] = odd[i] * u[i] + c;
                }
            }
            let scale = noise.radius / noise.next_radius;
            for i in 0..N {
                z[i] = scale * z[i] * (even[i] + t[i] * odd[i]) + spread[i];
                *count += u64::from(z[i].abs() > *limit);
                *largest = largest.max(z[i].abs());
            }
        }
        z
    }

    /// What each component of an evaluation has seen, before it saw anything.
    fn nothing_seen(&self) -> Vec<(u64, f64)> {
        vec![(0, 0.0); self.components.len()]
    }

    fn excursions(&self, seen: &[(u64, f64)]) -> Vec<Excursions> {
        let all = self.components.iter().zip(seen).enumerate().filter(|(_, (_, (count, _)))| *count > 0);
        all.map(|(index, (component, &(count, largest)))| {
            let next = component.noise.next_radius;
            Excursions {
                component: index + 1,
                count,
                largest: largest * next,
                domain: component.limit * next,
            }
        })
        .collect()
    }
}

/// `relu_{alpha,B}` under noise.
#[derive(Debug, Clone)]
pub struct NoisyRelu {
    sign: Arc<NoisySign>,
    bound: f32,
    noise: Noise,
    site: String,
}

impl NoisyRelu {
    /// The ReLU on `[-bound, bound]` by any approximation of the sign function, with the noise of the place called `site`.
    ///
    /// # Errors
    /// [`InvalidBound`](crate::OpError::InvalidBound) unless `bound` is positive and finite.
    pub fn new(sign: &CompositeSign, bound: f64, noise: Noise, site: &str) -> Result<Self> {
        let bound = check_bound(bound)?;
        Ok(Self { sign: Arc::new(NoisySign::new(sign)), bound, noise, site: site.to_owned() })
    }

    /// Applies it, and records the range of the input and what left a component's domain.
    ///
    /// # Shapes
    /// `xs`: `[N, …]`; the output has the same.
    ///
    /// # Errors
    /// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), or candle's own.
    pub fn forward(&self, xs: &Tensor, recorder: &RangeRecorder) -> Result<Tensor> {
        check_dtype("noisy_relu", xs.dtype())?;
        by_image(xs, |image| {
            recorder.record(RangeStats::of(image, self.bound));
            let (ys, seen) = SimdLevel::current().run(ReluOfImage { relu: self, image });
            recorder.record_excursions(self.sign.excursions(&seen));
            ys
        })
    }
}

struct ReluOfImage<'a> {
    relu: &'a NoisyRelu,
    image: &'a [f32],
}

impl WithSimd for ReluOfImage<'_> {
    type Output = (Vec<f32>, Vec<(u64, f64)>);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        simd.vectorize(
            #[inline(always)]
            || {
                let NoisyRelu { sign, bound, noise: Noise { sigma, .. }, site, .. } = self.relu;
                let (bound, mut rng) = (f64::from(*bound), self.relu.noise.stream(site, self.image));
                let (mut ys, mut seen) = (Vec::with_capacity(self.image.len()), sign.nothing_seen());
                for values in self.image.chunks(BLOCK) {
                    let mut z = [0.0; BLOCK];
                    for (z, x) in z.iter_mut().zip(values) {
                        *z = f64::from(*x) / bound + sigma * rng.sample::<f64, _>(StandardNormal);
                    }
                    let s = sign.eval(z, *sigma, &mut rng, &mut seen);
                    for i in 0..values.len() {
                        let y = z[i] * (1.0 + s[i]) / 2.0 + sigma * rng.sample::<f64, _>(StandardNormal);
                        ys.push((bound * y) as f32);
                    }
                }
                (ys, seen)
            },
        )
    }
}

/// A fitted polynomial under noise.
#[derive(Debug, Clone)]
pub struct NoisyFitted(Arc<FittedUnderNoise>);

#[derive(Debug)]
struct FittedUnderNoise {
    polynomial: FittedPolynomial,
    amplification: NoisyPolynomial,
    noise: Noise,
    site: String,
}

impl NoisyFitted {
    /// The polynomial on its interval, with the noise of the place called `site`. Values are held in units of half of the
    /// interval, from its middle.
    ///
    /// # Errors
    /// [`InvalidBound`](crate::OpError::InvalidBound) for an interval that float32 does not have.
    pub fn new(polynomial: &FittedPolynomial, noise: Noise, site: &str) -> Result<Self> {
        check_bound(polynomial.radius())?;
        Ok(Self(Arc::new(FittedUnderNoise {
            amplification: NoisyPolynomial::new(polynomial),
            polynomial: polynomial.clone(),
            noise,
            site: site.to_owned(),
        })))
    }

    /// Applies it, and records the range of the input.
    ///
    /// # Shapes
    /// `xs`: `[N, …]`; the output has the same.
    ///
    /// # Errors
    /// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), or candle's own.
    pub fn forward(&self, xs: &Tensor, recorder: &RangeRecorder) -> Result<Tensor> {
        check_dtype("noisy_fitted", xs.dtype())?;
        let FittedUnderNoise { polynomial, amplification, noise, site } = &*self.0;
        let (center, radius) = (polynomial.center(), polynomial.radius());
        by_image(xs, |image| {
            recorder.record(RangeStats::around(image, center as f32, radius as f32));
            let mut rng = noise.stream(site, image);
            let mut gauss = || noise.sigma * rng.sample::<f64, _>(StandardNormal);
            let noisy = |x: &f32| {
                let z = (f64::from(*x) - center) / radius + gauss();
                let added = radius * amplification.amplification(z) * gauss();
                (polynomial.eval(center + radius * z) + added) as f32
            };
            image.iter().map(noisy).collect()
        })
    }
}

/// Max-pooling by a tournament of `max_alpha` under noise.
#[derive(Debug, Clone)]
pub struct NoisyMaxPool {
    sign: Arc<NoisySign>,
    c: f64,
    bound: f32,
    spec: PoolSpec,
    noise: Noise,
    site: String,
}

impl NoisyMaxPool {
    /// The max-pooling on `[-bound, bound]` by any approximation of the sign function on `[-1, 1]` whose maximum of two
    /// numbers in `[0, 1]` is off by at most `epsilon`, with the noise of the place called `site`.
    ///
    /// # Errors
    /// As [`NoisyRelu::new`].
    pub fn new(
        sign: &CompositeSign,
        epsilon: f64,
        bound: f64,
        spec: PoolSpec,
        noise: Noise,
        site: &str,
    ) -> Result<Self> {
        Ok(Self {
            sign: Arc::new(NoisySign::new(sign)),
            c: reference::scale(epsilon, bound, &spec),
            bound: check_bound(bound)?,
            spec,
            noise,
            site: site.to_owned(),
        })
    }

    /// Applies it, and records the range of the input and what left a component's domain.
    ///
    /// # Shapes
    /// `xs`: `[N, C, H, W]`; the output `[N, C, H', W']` with [`PoolSpec::output_size`].
    ///
    /// # Errors
    /// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), [`EmptyPool`](cnn_kernels::KernelError::EmptyPool), or candle's own for another
    /// rank.
    pub fn forward(&self, xs: &Tensor, recorder: &RangeRecorder) -> Result<Tensor> {
        check_dtype("noisy_max_pool", xs.dtype())?;
        let (n, channels, height, width) = xs.dims4()?;
        let (out_height, out_width) = self.spec.checked_output_size(height, width)?;
        let ys: Vec<Vec<f32>> = images(xs)?
            .par_chunks(channels * height * width)
            .map(|image| {
                recorder.record(RangeStats::of(image, self.bound));
                let mut rng = self.noise.stream(&self.site, image);
                let mut seen = self.sign.nothing_seen();
                let mut ys = Vec::with_capacity(channels * out_height * out_width);
                for plane in image.chunks(height * width) {
                    ys.extend(self.plane(plane, (height, width), &mut rng, &mut seen));
                }
                recorder.record_excursions(self.sign.excursions(&seen));
                ys
            })
            .collect();
        let shape = (n, channels, out_height, out_width);
        Ok(Tensor::from_vec(ys.concat(), shape, &Device::Cpu)?.to_device(xs.device())?)
    }

    fn plane(
        &self,
        plane: &[f32],
        (height, width): (usize, usize),
        rng: &mut ChaCha8Rng,
        seen: &mut [(u64, f64)],
    ) -> Vec<f32> {
        let sigma = self.noise.sigma;
        let scaled: Vec<f64> = plane
            .iter()
            .map(|x| self.c * f64::from(*x) + 0.5 + sigma * rng.sample::<f64, _>(StandardNormal))
            .collect();
        // What is around the image is no ciphertext of its own, but the same map of 0.
        let winners = reference::pool(&self.spec, &scaled, height, width, 0.5, |window| {
            reference::tournament(window, &mut |a, b| {
                let difference = a - b;
                let [s] = self.sign.eval([difference], sigma, rng, seen);
                (a + b + difference * s) / 2.0 + sigma * rng.sample::<f64, _>(StandardNormal)
            })
        });
        winners.into_iter().map(|winner| ((winner - 0.5) / self.c) as f32).collect()
    }
}

/// Maps each image of `[N, …]` by itself, and keeps the memory order.
fn by_image(xs: &Tensor, map: impl Fn(&[f32]) -> Vec<f32> + Sync + Send) -> Result<Tensor> {
    if let Some(dense) = dense_channels_last(xs)? {
        return Ok(by_image(&dense, map)?.permute((0, 3, 1, 2))?);
    }
    let size = xs.elem_count() / xs.dim(0)?.max(1);
    let ys: Vec<Vec<f32>> = images(xs)?.par_chunks(size.max(1)).map(map).collect();
    Ok(Tensor::from_vec(ys.concat(), xs.shape(), &Device::Cpu)?.to_device(xs.device())?)
}

fn images(xs: &Tensor) -> Result<Vec<f32>> {
    Ok(xs.flatten_all()?.to_vec1()?)
}
