//! Convolution and its gradients from candle's own ops, for devices that our convolutions are not for.

use candle_core::{Result, Tensor};

use crate::conv_gradient::ConvWindow;

/// Zeros around an image: `(rows, columns)` at each side.
fn padded(xs: &Tensor, (rows, columns): (usize, usize)) -> Result<Tensor> {
    xs.pad_with_zeros(2, rows, rows)?.pad_with_zeros(3, columns, columns)
}

/// Whether each output pixel is made of one input pixel, in the same place.
pub(crate) fn is_pointwise(weight: &Tensor, window: ConvWindow) -> bool {
    matches!(weight.dims(), [.., 1, 1]) && window == ConvWindow { stride: 1, padding: (0, 0) }
}

/// A matrix product for each image: on a GPU, cuBLAS is faster at it than convolutions of one pixel are.
fn pointwise(xs: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let ((images, inputs, height, width), outputs) = (xs.dims4()?, weight.dim(0)?);
    let pixels = xs.contiguous()?.reshape((images, inputs, height * width))?;
    let weights = weight.reshape((outputs, inputs))?.broadcast_left(images)?;
    weights.matmul(&pixels)?.reshape((images, outputs, height, width))
}

/// As [`conv2d`](crate::conv2d), contiguous.
pub(crate) fn conv2d(xs: &Tensor, weight: &Tensor, window: ConvWindow) -> Result<Tensor> {
    if is_pointwise(weight, window) {
        return pointwise(xs, weight);
    }
    let (rows, columns) = window.padding;
    // candle has one padding for both.
    match rows == columns {
        true => xs.conv2d(weight, rows, window.stride, 1, 1),
        false => padded(xs, window.padding)?.conv2d(weight, 0, window.stride, 1, 1),
    }
}

/// As [`conv2d_input_gradient`](crate::conv2d_input_gradient): a convolution of the gradient, with zeros between its
/// pixels, with the kernels turned.
pub(crate) fn conv2d_input_gradient(
    gradient: &Tensor,
    weight: &Tensor,
    size: (usize, usize),
    window: ConvWindow,
) -> Result<Tensor> {
    let (n, channels, height, width) = gradient.dims4()?;
    let (_, _, kernel_height, kernel_width) = weight.dims4()?;
    let (rows, columns) = window.padding;
    let padding = (kernel_height - 1 - rows, kernel_width - 1 - columns);
    let dilated = match window.stride {
        1 => gradient.contiguous()?,
        stride => {
            let spread = gradient
                .reshape((n, channels, height, 1, width, 1))?
                .pad_with_zeros(3, 0, stride - 1)?
                .pad_with_zeros(5, 0, stride - 1)?
                .reshape((n, channels, height * stride, width * stride))?;
            // As many zeros behind the last pixel as it takes to get the input's size.
            let spread = resized(&spread, 2, size.0 + 2 * rows - (kernel_height - 1))?;
            resized(&spread, 3, size.1 + 2 * columns - (kernel_width - 1))?
        }
    };
    let turned = weight.transpose(0, 1)?.contiguous()?.flip(&[2, 3])?;
    conv2d(&dilated, &turned, ConvWindow { stride: 1, padding })
}

/// Cuts off the end, or adds zeros there.
fn resized(xs: &Tensor, dim: usize, size: usize) -> Result<Tensor> {
    match xs.dim(dim)? {
        have if have > size => xs.narrow(dim, 0, size)?.contiguous(),
        have => xs.pad_with_zeros(dim, 0, size - have),
    }
}

/// As [`conv2d_weight_gradient`](crate::conv2d_weight_gradient): a convolution of the images with the gradients, whose
/// pixels are as far apart as the windows were, summed over the images.
pub(crate) fn conv2d_weight_gradient(
    xs: &Tensor,
    gradient: &Tensor,
    (height, width): (usize, usize),
    window: ConvWindow,
) -> Result<Tensor> {
    let swapped = |xs: &Tensor| xs.transpose(0, 1)?.contiguous();
    let (rows, columns) = window.padding;
    let (xs, padding) = match rows == columns {
        true => (swapped(xs)?, rows),
        false => (padded(&swapped(xs)?, window.padding)?, 0),
    };
    let sums = xs.conv2d(&swapped(gradient)?, padding, 1, window.stride, 1)?;
    // More rows and columns than the kernel's where windows do not reach the end of the image.
    sums.narrow(2, 0, height)?.narrow(3, 0, width)?.transpose(0, 1)?.contiguous()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn candles_ops_give_what_ours_give() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let close = |a: &Tensor, b: &Tensor, what: &str| -> Result<()> {
            assert_eq!(a.dims(), b.dims(), "{what}");
            let difference = (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            assert!(difference < 1e-3, "{what}: {difference}");
            Ok(())
        };
        for (kernel, stride, padding) in [
            ((3, 3), 1, (1, 1)),
            ((3, 3), 2, (1, 1)),
            ((1, 1), 1, (0, 0)),
            ((1, 1), 2, (0, 0)),
            ((1, 7), 1, (0, 3)),
            ((3, 3), 2, (0, 0)),
            ((7, 7), 2, (3, 3)),
            ((5, 3), 3, (2, 0)),
        ] {
            for (height, width) in [(9, 8), (12, 7)] {
                let window = ConvWindow { stride, padding };
                let what = format!("{kernel:?}, {window:?}, {height}×{width}");
                let xs = Tensor::randn(0f32, 1.0, (2, 3, height, width), &Device::Cpu)?;
                let weight = Tensor::randn(0f32, 1.0, (4, 3, kernel.0, kernel.1), &Device::Cpu)?;
                let ys = crate::conv2d(&xs, &weight, window)?;
                close(&conv2d(&xs, &weight, window)?, &ys, &what)?;
                let gradient = Tensor::randn(0f32, 1.0, ys.shape(), &Device::Cpu)?;
                let of_xs = conv2d_input_gradient(&gradient, &weight, (height, width), window)?;
                let expected = crate::conv2d_input_gradient(&gradient, &weight, (height, width), window)?;
                close(&of_xs, &expected, &what)?;
                let of_weight = conv2d_weight_gradient(&xs, &gradient, kernel, window)?;
                let expected = crate::conv2d_weight_gradient(&xs, &gradient, kernel, window)?;
                close(&of_weight, &expected, &what)?;
            }
        }
        Ok(())
    }
}
