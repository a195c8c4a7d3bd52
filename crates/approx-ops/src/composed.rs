//! Max-pooling as a tournament of whole tensors, one for each place in the window: for windows that have no kernel on a
//! device. Slower than a kernel, because each maximum of two goes through memory.

use candle_core::{Result as CandleResult, Tensor};
use cnn_kernels::{Padding, PoolSpec};

use crate::elementwise::Function;
use crate::error::Result;
use crate::range::RangeRecorder;

/// A pooling of images of one size.
pub(crate) struct ComposedPool {
    /// What `f` is in `max(a, b) = b + f(a − b)`; `None` for the exact maximum.
    maximum: Option<Function>,
    spec: PoolSpec,
    input: [usize; 2],
    output: [usize; 2],
}

impl ComposedPool {
    pub(crate) fn new(maximum: Option<Function>, spec: PoolSpec, input: [usize; 2]) -> Result<Self> {
        let (height, width) = spec.checked_output_size(input[0], input[1])?;
        Ok(Self { maximum, spec, input, output: [height, width] })
    }

    /// # Shapes
    /// `xs`: `[N, C, H, W]`; the result `[N, C, H', W']`, contiguous.
    pub(crate) fn forward(&self, xs: &Tensor, bound: f32, recorder: &RangeRecorder) -> Result<Tensor> {
        Function::Identity { bound }.apply(xs, recorder)?;
        let mut players = self.taps(xs)?;
        while players.len() > 1 {
            players = players.chunks(2).map(|pair| self.play(pair)).collect::<Result<_>>()?;
        }
        Ok(players.remove(0))
    }

    /// The gradient of the input from that of the result.
    pub(crate) fn gradient(&self, xs: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let mut rounds = vec![self.taps(xs)?];
        while let Some(players) = rounds.last().filter(|players| players.len() > 1) {
            let next = players.chunks(2).map(|pair| self.play(pair)).collect::<Result<_>>()?;
            rounds.push(next);
        }
        rounds.pop();
        let mut gradients = vec![gradient.contiguous()?];
        for players in rounds.iter().rev() {
            let of_pair = |(pair, gradient): (&[Tensor], &Tensor)| self.play_back(pair, gradient);
            let pairs = players.chunks(2).zip(&gradients).map(of_pair).collect::<Result<Vec<_>>>()?;
            gradients = pairs.into_iter().flatten().collect();
        }
        self.scatter(&gradients)
    }

    /// The winner of two, or the one that has nobody to play.
    fn play(&self, pair: &[Tensor]) -> Result<Tensor> {
        let [a, b] = pair else { return Ok(pair[0].clone()) };
        Ok(match &self.maximum {
            Some(f) => (b + f.apply(&(a - b)?, &RangeRecorder::default())?)?,
            None => {
                let larger = b.gt(a)?.where_cond(b, a)?;
                // NaN differs from itself.
                b.eq(b)?.where_cond(&larger, b)?
            }
        })
    }

    /// The gradients of those who played.
    fn play_back(&self, pair: &[Tensor], gradient: &Tensor) -> Result<Vec<Tensor>> {
        let [a, b] = pair else { return Ok(vec![gradient.clone()]) };
        let of_a = match &self.maximum {
            Some(f) => f.gradient(&(a - b)?, gradient)?,
            // To the first where both are the same.
            None => (a.ge(b)?.to_dtype(gradient.dtype())? * gradient)?,
        };
        let of_b = (gradient - &of_a)?;
        Ok(vec![of_a, of_b])
    }

    /// Rows and columns that the windows reach over, from the first row of padding on.
    fn reach(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.output[axis] - 1) * self.spec.stride()[axis] + self.spec.kernel()[axis])
    }

    /// Each place of all windows, `[N, C, H', W']`.
    fn taps(&self, xs: &Tensor) -> Result<Vec<Tensor>> {
        let padding_value = if self.maximum.is_some() { 0.0 } else { f32::NEG_INFINITY };
        let Padding { top, left, .. } = self.spec.padding();
        // A step more, so that every place has whole steps behind it.
        let [rows, columns] = [0, 1].map(|axis| self.reach()[axis] + self.spec.stride()[axis]);
        let padded = padded(
            &padded(&xs.contiguous()?, 2, top, rows, padding_value)?,
            3,
            left,
            columns,
            padding_value,
        )?;
        let [kernel_rows, kernel_columns] = self.spec.kernel();
        let mut taps = Vec::with_capacity(self.spec.values());
        for y in 0..kernel_rows {
            let rows = every(&padded, 2, y, self.spec.stride()[0], self.output[0])?;
            for x in 0..kernel_columns {
                taps.push(every(&rows, 3, x, self.spec.stride()[1], self.output[1])?);
            }
        }
        Ok(taps)
    }

    /// Adds the gradients of each place to those of the image.
    fn scatter(&self, gradients: &[Tensor]) -> Result<Tensor> {
        let Padding { top, left, .. } = self.spec.padding();
        let [rows, columns] = [0, 1].map(|axis| {
            let before = if axis == 0 { top } else { left };
            (self.reach()[axis] + self.spec.stride()[axis]).max(before + self.input[axis])
        });
        let mut sum: Option<Tensor> = None;
        for (k, gradient) in gradients.iter().enumerate() {
            let (y, x) = (k / self.spec.kernel()[1], k % self.spec.kernel()[1]);
            let spread = apart(
                &apart(gradient, 2, y, self.spec.stride()[0], rows)?,
                3,
                x,
                self.spec.stride()[1],
                columns,
            )?;
            sum = Some(match sum {
                Some(sum) => (sum + spread)?,
                None => spread,
            });
        }
        let sum = sum.expect("a window has a value");
        Ok(sum.narrow(2, top, self.input[0])?.narrow(3, left, self.input[1])?.contiguous()?)
    }
}

/// `size` rows or columns: `before` of `value`, and as many behind as it takes, or fewer of the image.
fn padded(xs: &Tensor, dim: usize, before: usize, size: usize, value: f32) -> CandleResult<Tensor> {
    let behind = size.saturating_sub(before + xs.dim(dim)?);
    let mut parts = vec![xs.clone()];
    // A GPU refuses to fill a tensor without numbers.
    let side = |count: usize| {
        let mut dims = xs.dims().to_vec();
        dims[dim] = count;
        Tensor::full(value, dims, xs.device())
    };
    if before > 0 {
        parts.insert(0, side(before)?);
    }
    if behind > 0 {
        parts.push(side(behind)?);
    }
    Tensor::cat(&parts, dim)?.narrow(dim, 0, size)?.contiguous()
}

/// `count` rows or columns, each `step` behind the one before, from `first` on.
fn every(xs: &Tensor, dim: usize, first: usize, step: usize, count: usize) -> CandleResult<Tensor> {
    let mut dims = xs.dims().to_vec();
    dims.splice(dim..=dim, [count, step]);
    xs.narrow(dim, first, count * step)?
        .contiguous()?
        .reshape(dims)?
        .narrow(dim + 1, 0, 1)?
        .squeeze(dim + 1)?
        .contiguous()
}

/// The other way round: zeros in all other rows or columns, of which there are `size`.
fn apart(xs: &Tensor, dim: usize, first: usize, step: usize, size: usize) -> CandleResult<Tensor> {
    let mut dims = xs.dims().to_vec();
    let count = dims[dim] * step;
    dims[dim] = count;
    let spread = xs.unsqueeze(dim + 1)?.pad_with_zeros(dim + 1, 0, step - 1)?.reshape(dims)?;
    spread.pad_with_zeros(dim, first, size.saturating_sub(first + count))?.narrow(dim, 0, size)
}
