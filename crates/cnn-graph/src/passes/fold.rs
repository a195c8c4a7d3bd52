//! Batch norm as part of the convolution before it.

/// A convolution's weight and bias with the batch norm behind it in them.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedConv {
    /// As the convolution's, in row-major order.
    pub weight: Vec<f32>,
    /// One for each output channel.
    pub bias: Vec<f32>,
}

/// The parameters of a batch norm, each with one number for each channel.
#[derive(Debug, Clone, Copy)]
pub struct NormParams<'a> {
    /// The factor.
    pub weight: &'a [f32],
    /// The summand.
    pub bias: &'a [f32],
    /// The running mean.
    pub mean: &'a [f32],
    /// The running variance.
    pub variance: &'a [f32],
    /// Added to the variance.
    pub eps: f64,
}

impl NormParams<'_> {
    /// Batch norm as a factor and a summand for each channel, in float64:
    /// `factor = weight / sqrt(variance + eps)`, `summand = bias − mean · factor`.
    pub fn as_affine(&self) -> (Vec<f64>, Vec<f64>) {
        let factors: Vec<f64> = (0..self.weight.len()).map(|c| self.factor(c)).collect();
        let summands = factors.iter().enumerate().map(|(c, factor)| self.summand(c, 0.0, *factor));
        let summands = summands.collect();
        (factors, summands)
    }

    fn factor(&self, c: usize) -> f64 {
        f64::from(self.weight[c]) / (f64::from(self.variance[c]) + self.eps).sqrt()
    }

    /// What the sum of channel `c` gets, behind a convolution with this bias.
    fn summand(&self, c: usize, bias: f64, factor: f64) -> f64 {
        (bias - f64::from(self.mean[c])) * factor + f64::from(self.bias[c])
    }
}

/// Folds a batch norm into the convolution before it: `y = (conv(x) + bias − mean) · factor + shift`, in float64 and
/// rounded once.
///
/// # Shapes
/// `weight`: `[outputs, …]` in row-major order; all others: `[outputs]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn fold_batch_norm(weight: &[f32], bias: Option<&[f32]>, norm: NormParams) -> FoldedConv {
    let outputs = norm.weight.len();
    assert!(outputs > 0 && weight.len().is_multiple_of(outputs), "a weight is [outputs, …]");
    let mut folded =
        FoldedConv { weight: Vec::with_capacity(weight.len()), bias: Vec::with_capacity(outputs) };
    for (c, weights) in weight.chunks(weight.len() / outputs).enumerate() {
        let factor = norm.factor(c);
        folded.weight.extend(weights.iter().map(|w| (f64::from(*w) * factor) as f32));
        let bias = bias.map_or(0.0, |bias| f64::from(bias[c]));
        folded.bias.push(norm.summand(c, bias, factor) as f32);
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_convolution_is_the_convolution_and_its_norm() {
        // A 1×1 convolution of two channels to two, on one pixel.
        let (weight, bias) = ([1.0f32, 2.0, -3.0, 0.5], [0.25f32, -1.0]);
        let norm = NormParams {
            weight: &[2.0, 0.5],
            bias: &[1.0, -1.0],
            mean: &[0.5, 4.0],
            variance: &[4.0, 0.25],
            eps: 1e-3,
        };
        let x = [3.0f64, -2.0];
        let folded = fold_batch_norm(&weight, Some(&bias), norm);
        let (factors, summands) = norm.as_affine();
        for c in 0..2 {
            let sum =
                |weights: &[f32]| f64::from(weights[2 * c]) * x[0] + f64::from(weights[2 * c + 1]) * x[1];
            let convolved = sum(&weight) + f64::from(bias[c]);
            let variance = f64::from(norm.variance[c]) + 1e-3;
            let expected = (convolved - f64::from(norm.mean[c])) / variance.sqrt()
                * f64::from(norm.weight[c])
                + f64::from(norm.bias[c]);
            let actual = sum(&folded.weight) + f64::from(folded.bias[c]);
            assert!((actual - expected).abs() < 1e-5, "{actual}, not {expected}");
            assert!((convolved * factors[c] + summands[c] - expected).abs() < 1e-12);
        }
    }
}
