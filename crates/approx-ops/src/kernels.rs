//! What the CUDA kernels are given, and how many threads. kernels/minimax.cuh has the same structs, field by field.
//!
//! Built with the feature `cuda`, and for the tests, which run the kernels' arithmetic on the host.

use cnn_kernels::PoolSpec;

use crate::cpu::composite::Composite;
use crate::cpu::exact::Exact;
use crate::cpu::map::Range;
use crate::elementwise::{Channels, Function};
use crate::error::{OpError, Result};

/// Coefficients of each half of a component, as there: degree 63, the highest of all compositions.
const MAX_TERMS: usize = 16;
/// Components, as there: so many of float64 fit into the 4 KiB of a kernel's parameters.
const MAX_COMPONENTS: usize = 12;
/// ReLUs of a piecewise linear function, as there.
const MAX_KINKS: usize = 2;
/// Terms of a smooth function's polynomial in the square, as there: degree 255.
const MAX_SQUARE_TERMS: usize = 128;
/// Coefficients of each part of a fitted polynomial, as there: degree 63.
const PART_TERMS: usize = 8;
/// Numbers that one launch reads or writes at most: indices are of 32 bits, and end below 2^31.
pub(crate) const MAX_NUMBERS: usize = 1 << 30;
/// Threads of a block.
#[cfg(feature = "cuda")]
pub(crate) const BLOCK: u32 = 256;
/// Blocks that a multiprocessor has at once.
#[cfg(feature = "cuda")]
pub(crate) const BLOCKS_PER_MULTIPROCESSOR: u32 = 8;
/// Stands for a slot where the range is not asked for.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// A number that many indices are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Divisor {
    divisor: u32,
    factor: u32,
    shift: u32,
}

impl Divisor {
    /// `divisor` is from 1 to 2^30.
    pub(crate) fn new(divisor: usize) -> Self {
        assert!((1..=MAX_NUMBERS).contains(&divisor), "nothing is divided by {divisor}");
        let log2 = divisor.next_power_of_two().ilog2();
        if log2 == 0 {
            return Self { divisor: 1, factor: 0, shift: 0 };
        }
        let factor = (1u64 << (31 + log2)).div_ceil(divisor as u64);
        Self { divisor: divisor as u32, factor: factor as u32, shift: log2 - 1 }
    }
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct ComponentParams<T> {
    scale: T,
    evens: u32,
    odds: u32,
    even: [T; MAX_TERMS],
    odd: [T; MAX_TERMS],
}

/// A composition in the type that it is evaluated in.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct CompositeParams<T> {
    count: u32,
    unused: u32,
    components: [ComponentParams<T>; MAX_COMPONENTS],
}

/// Types that compositions are evaluated in.
pub(crate) trait Real: Copy + Default + 'static {
    fn rounded(x: f64) -> Self;
}

impl Real for f32 {
    fn rounded(x: f64) -> f32 {
        x as f32
    }
}

impl Real for f64 {
    fn rounded(x: f64) -> f64 {
        x
    }
}

impl<T: Real> CompositeParams<T> {
    /// Of no components, for functions without.
    fn empty() -> Self {
        let zeros = [T::default(); MAX_TERMS];
        let component = ComponentParams { scale: T::default(), evens: 0, odds: 0, even: zeros, odd: zeros };
        Self { count: 0, unused: 0, components: [component; MAX_COMPONENTS] }
    }

    /// # Errors
    /// [`OpError::LongComposition`].
    pub(crate) fn new(composite: &Composite) -> Result<Self> {
        let components = composite.components();
        let terms = components.iter().map(|c| c.even.len().max(c.odd.len())).max().unwrap_or(0);
        if components.len() > MAX_COMPONENTS || terms > MAX_TERMS {
            return Err(OpError::LongComposition { components: components.len(), limit: MAX_COMPONENTS });
        }
        let mut params = Self { count: components.len() as u32, ..Self::empty() };
        for (to, from) in params.components.iter_mut().zip(components) {
            (to.scale, to.evens, to.odds) =
                (T::rounded(from.scale), from.even.len() as u32, from.odd.len() as u32);
            to.even.iter_mut().zip(&from.even).for_each(|(to, from)| *to = T::rounded(*from));
            to.odd.iter_mut().zip(&from.odd).for_each(|(to, from)| *to = T::rounded(*from));
        }
        Ok(params)
    }
}

/// What a function is applied to.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct ActivationParams<T> {
    count: u32,
    vectors: u32,
    slot: u32,
    channels_are_used: u32,
    inner: Divisor,
    channels: Divisor,
    center: f32,
    bound: f32,
    inverse_bound: f32,
    exact_outside: u32,
    function: FunctionParams,
    sign: CompositeParams<T>,
}

/// What a function has besides a composition.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct FunctionParams {
    /// Which exact function, by its place in [`Exact`].
    exact: u32,
    parameters: [f32; 2],
    is_odd: u32,
    times_x: u32,
    slope: f32,
    offset: f32,
    kinks: u32,
    kink: [KinkParams; MAX_KINKS],
    terms: u32,
    coefficients: [f32; MAX_SQUARE_TERMS],
    /// Of a fitted polynomial: how many pairs, and the lengths of their parts, each in [`PART_TERMS`] of the coefficients.
    pairs: u32,
    lengths: [u32; 8],
}

/// A ReLU of a piecewise linear function.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct KinkParams {
    weight: f32,
    at: f32,
    inverse_bound: f32,
}

impl FunctionParams {
    /// # Errors
    /// [`OpError::LargeFunction`].
    fn new(function: &Function) -> Result<Self> {
        let mut params = Self {
            exact: 0,
            parameters: [0.0; 2],
            is_odd: 0,
            times_x: 0,
            slope: 0.0,
            offset: 0.0,
            kinks: 0,
            kink: [KinkParams::default(); MAX_KINKS],
            terms: 0,
            coefficients: [0.0; MAX_SQUARE_TERMS],
            pairs: 0,
            lengths: [0; 8],
        };
        let too_large =
            |terms| OpError::LargeFunction { op: function.name(), terms, limit: MAX_SQUARE_TERMS };
        match function {
            Function::Exact(exact) => params.set_exact(exact),
            Function::Piecewise(map) => {
                (params.slope, params.offset, params.times_x) = (map.slope, map.offset, map.times_x.into());
                if map.kinks.len() > MAX_KINKS {
                    return Err(too_large(map.kinks.len()));
                }
                params.kinks = map.kinks.len() as u32;
                for (to, from) in params.kink.iter_mut().zip(&map.kinks) {
                    let (weight, at, inverse_bound) = (from.weight, from.at, from.inverse_bound());
                    *to = KinkParams { weight, at, inverse_bound };
                }
                map.outside.iter().for_each(|exact| params.set_exact(exact));
            }
            Function::Smooth(map) => {
                (params.slope, params.offset, params.is_odd) = (map.slope, map.offset, map.is_odd.into());
                if map.coefficients.len() > MAX_SQUARE_TERMS {
                    return Err(too_large(map.coefficients.len()));
                }
                params.terms = map.coefficients.len() as u32;
                params.coefficients[..map.coefficients.len()].copy_from_slice(&map.coefficients);
                map.outside.iter().for_each(|exact| params.set_exact(exact));
            }
            Function::Fitted(map) => {
                let places = params.coefficients.chunks_exact_mut(PART_TERMS);
                let parts = map.pairs.as_slice().iter().flatten();
                params.pairs = map.pairs.as_slice().len() as u32;
                for ((length, place), part) in params.lengths.iter_mut().zip(places).zip(parts) {
                    *length = part.len() as u32;
                    place[..part.len()].copy_from_slice(part);
                }
                map.outside.iter().for_each(|exact| params.set_exact(exact));
            }
            _ => {}
        }
        Ok(params)
    }

    fn set_exact(&mut self, exact: &Exact) {
        (self.exact, self.parameters) = match *exact {
            Exact::LeakyRelu { slope } => (0, [slope, 0.0]),
            Exact::Clip { low, high } => (1, [low, high]),
            Exact::HardSigmoid { scale, offset } => (2, [scale, offset]),
            Exact::HardSwish => (3, [0.0; 2]),
            Exact::Sigmoid => (4, [0.0; 2]),
            Exact::Tanh => (5, [0.0; 2]),
            Exact::Silu => (6, [0.0; 2]),
            Exact::Gelu => (7, [0.0; 2]),
            Exact::GeluTanh => (8, [0.0; 2]),
        };
    }
}

impl<T: Real> ActivationParams<T> {
    /// For `count` numbers, at most [`MAX_NUMBERS`]; `aligned` if all of them are aligned to 16 bytes.
    pub(crate) fn new(
        function: &Function,
        count: usize,
        aligned: bool,
        channels: Option<Channels>,
        slot: Option<u32>,
    ) -> Result<Self> {
        assert!(count <= MAX_NUMBERS, "{count} numbers are too many for one launch");
        let sign = match function.sign() {
            Some(sign) => CompositeParams::new(sign)?,
            None => CompositeParams::empty(),
        };
        let exact_outside = match function {
            Function::MinimaxReluWithin { .. } => true,
            Function::Piecewise(map) => map.outside.is_some(),
            Function::Smooth(map) => map.outside.is_some(),
            Function::Fitted(map) => map.outside.is_some(),
            _ => false,
        };
        let Range { center, bound } = function.range();
        let Channels { count: channel_count, inner } = channels.unwrap_or(Channels { count: 1, inner: 1 });
        Ok(Self {
            count: count as u32,
            vectors: if aligned { count as u32 / 4 } else { 0 },
            slot: slot.unwrap_or(NO_SLOT),
            channels_are_used: channels.is_some().into(),
            inner: Divisor::new(inner),
            channels: Divisor::new(channel_count),
            center,
            bound,
            inverse_bound: 1.0 / bound,
            exact_outside: exact_outside.into(),
            function: FunctionParams::new(function)?,
            sign,
        })
    }

    /// Threads that have something to do.
    #[cfg(feature = "cuda")]
    pub(crate) fn threads(&self) -> usize {
        (self.vectors.max(self.count - 4 * self.vectors)) as usize
    }
}

/// Pixels of a warp, four for each thread.
#[cfg(feature = "cuda")]
const WARP_PIXELS: usize = 128;
/// Numbers of an input channel in a block's shared memory, for each warp's pixels, as there.
#[cfg(feature = "cuda")]
const STAGED: usize = 240;

/// What a 3×3 convolution with stride 1 and padding 1 is given.
#[cfg(feature = "cuda")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConvShape {
    pub(crate) images: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// What a block of a convolution computes: one of those that kernels/conv.cu has kernels for.
#[cfg(feature = "cuda")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConvTile {
    /// Output channels of a warp, and of how many of these groups a block has a warp.
    channels: usize,
    groups: usize,
}

#[cfg(feature = "cuda")]
impl ConvTile {
    /// From the largest to the smallest tile of 16 output channels, and of 32.
    pub(crate) const ALL: [Self; 3] =
        [Self { channels: 8, groups: 2 }, Self { channels: 8, groups: 4 }, Self { channels: 4, groups: 8 }];

    /// The tile for a shape: the largest that has a block for each multiprocessor, or the smallest.
    pub(crate) fn of(shape: ConvShape, multiprocessors: usize) -> Option<Self> {
        // With fewer output channels at a time, a block would read its input more often.
        let most = Self::ALL.iter().filter(|tile| tile.fits(shape)).map(|tile| tile.outputs()).max()?;
        let mut tiles = Self::ALL.into_iter().filter(|tile| tile.fits(shape) && tile.outputs() == most);
        let last = tiles.clone().next_back();
        tiles.find(|tile| tile.blocks(shape) >= multiprocessors).or(last)
    }

    fn outputs(self) -> usize {
        self.channels * self.groups
    }

    /// Pixels of a block.
    fn pixels(self) -> usize {
        BLOCK as usize / 32 / self.groups * WARP_PIXELS
    }

    /// Whether tiles are whole rows of one image or whole images, and what they need is no more than there is room for.
    pub(crate) fn fits(self, shape: ConvShape) -> bool {
        let ConvShape { images, inputs, outputs, height, width } = shape;
        let pixels = self.pixels();
        if width == 0 || height == 0 || width % 4 != 0 || pixels % width != 0 || outputs % self.outputs() != 0
        {
            return false;
        }
        let rows = pixels / width;
        let staged = self.staged_rows(shape) * (width + 4);
        (rows % height == 0 || height % rows == 0)
            && staged <= STAGED * pixels / WARP_PIXELS
            && images * height * width * inputs.max(outputs) <= MAX_NUMBERS
    }

    fn rows(self, shape: ConvShape) -> usize {
        self.pixels() / shape.width
    }

    /// Rows of a channel in shared memory: of each image one more on both sides.
    fn staged_rows(self, shape: ConvShape) -> usize {
        let (rows, part) = (self.rows(shape), self.rows(shape).min(shape.height));
        rows / part * (part + 2)
    }

    fn tiles(self, shape: ConvShape) -> usize {
        (shape.images * shape.height).div_ceil(self.rows(shape))
    }

    /// Blocks of a launch.
    pub(crate) fn blocks(self, shape: ConvShape) -> usize {
        self.tiles(shape) * (shape.outputs / self.outputs())
    }

    /// How the names of its kernels end.
    pub(crate) fn kernel(self) -> String {
        format!("{}x{}", self.channels, self.groups)
    }
}

/// A convolution, and the function behind it.
#[cfg(feature = "cuda")]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct ConvParams {
    images: u32,
    inputs: u32,
    outputs: u32,
    height: u32,
    width: u32,
    rows: u32,
    part: u32,
    by_tiles: Divisor,
    by_height: Divisor,
    by_part: Divisor,
    by_quads: Divisor,
    by_staged_rows: Divisor,
    by_staged_part: Divisor,
    pitch: u32,
    activation: ActivationParams<f32>,
}

#[cfg(feature = "cuda")]
impl ConvParams {
    /// For a tile that fits the shape, of one image or more.
    pub(crate) fn new(
        function: &Function,
        shape: ConvShape,
        tile: ConvTile,
        slot: Option<u32>,
    ) -> Result<Self> {
        let ConvShape { images, inputs, outputs, height, width } = shape;
        let (rows, staged_rows) = (tile.rows(shape), tile.staged_rows(shape));
        let part = rows.min(height);
        Ok(Self {
            images: images as u32,
            inputs: inputs as u32,
            outputs: outputs as u32,
            height: height as u32,
            width: width as u32,
            rows: rows as u32,
            part: part as u32,
            by_tiles: Divisor::new(tile.tiles(shape)),
            by_height: Divisor::new(height),
            by_part: Divisor::new(part),
            by_quads: Divisor::new(width / 4),
            by_staged_rows: Divisor::new(staged_rows),
            by_staged_part: Divisor::new(part + 2),
            pitch: width as u32 + 4,
            activation: ActivationParams::new(function, 0, true, None, slot)?,
        })
    }
}

/// The maximum of two that a pooling is made of.
pub(crate) struct Maximum<'a> {
    pub(crate) sign: Option<&'a Composite>,
    pub(crate) c: f64,
    pub(crate) exact_outside: bool,
}

/// What is pooled.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct PoolParams<T> {
    planes: u32,
    height: u32,
    width: u32,
    stride: u32,
    padding: u32,
    slot: u32,
    out_height: Divisor,
    out_width: Divisor,
    in_height: Divisor,
    in_width: Divisor,
    by_stride: Divisor,
    kernel: u32,
    bound: f32,
    exact_outside: u32,
    c: T,
    sign: CompositeParams<T>,
}

/// Planes and their sizes before and after pooling, none of them 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planes {
    pub(crate) count: usize,
    pub(crate) input: (usize, usize),
    pub(crate) output: (usize, usize),
}

impl Planes {
    /// Numbers of a plane before and after.
    pub(crate) fn numbers(&self) -> (usize, usize) {
        (self.input.0 * self.input.1, self.output.0 * self.output.1)
    }
}

impl<T: Real> PoolParams<T> {
    /// For planes that have at most [`MAX_NUMBERS`] numbers together.
    pub(crate) fn new(
        spec: &PoolSpec,
        max: &Maximum,
        bound: f32,
        planes: Planes,
        slot: Option<u32>,
    ) -> Result<Self> {
        let Planes { count, input: (height, width), output } = planes;
        let largest = planes.numbers().0.max(planes.numbers().1) * count;
        assert!(largest <= MAX_NUMBERS, "{largest} numbers are too many for one launch");
        // Beyond the image, no stride differs from another.
        let stride = spec.stride()[0].min(MAX_NUMBERS);
        Ok(Self {
            planes: count as u32,
            height: height as u32,
            width: width as u32,
            stride: stride as u32,
            padding: spec.padding().top as u32,
            slot: slot.unwrap_or(NO_SLOT),
            out_height: Divisor::new(output.0),
            out_width: Divisor::new(output.1),
            in_height: Divisor::new(height),
            in_width: Divisor::new(width),
            by_stride: Divisor::new(stride),
            kernel: spec.kernel()[0] as u32,
            bound,
            exact_outside: max.exact_outside.into(),
            c: T::rounded(max.c),
            sign: max.sign.map_or(Ok(CompositeParams::empty()), CompositeParams::new)?,
        })
    }
}

#[cfg(test)]
mod host;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_divide() {
        let divide = |n: u32, d: Divisor| match d.divisor {
            1 => n,
            _ => ((u64::from(n) * u64::from(d.factor)) >> 32) as u32 >> d.shift,
        };
        let ends = |n: u32| [n.saturating_sub(1), n, n.saturating_add(1)];
        let divisors = (1..2000).chain((2..=30).flat_map(|bits| ends(1 << bits))).filter(|&d| d <= 1 << 30);
        for divisor in divisors {
            let reciprocal = Divisor::new(divisor as usize);
            let multiples = [1u32, 2, 3, 1000, (1 << 31) / divisor].map(|k| k.saturating_mul(divisor));
            for n in multiples.into_iter().flat_map(ends).filter(|&n| n < 1 << 31).chain([(1 << 31) - 1]) {
                assert_eq!(divide(n, reciprocal), n / divisor, "{n} / {divisor}");
            }
        }
    }
}
