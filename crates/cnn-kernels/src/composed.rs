//! Convolution and its gradients from candle's own ops, for devices that our convolutions are not for.
//!
//! candle's convolution has one stride, one dilation and one padding for both axes and all sides. Padding that differs is
//! added before; a dilation that differs becomes zeros in the kernel, and a stride that differs a choice of rows and columns
//! behind a convolution with stride 1.

use candle_core::{Result, Tensor};

use crate::geometry::ConvGeometry;
use crate::window::Padding;

/// Zeros around an image.
pub(crate) fn padded(xs: &Tensor, padding: Padding) -> Result<Tensor> {
    let Padding { top, bottom, left, right } = padding;
    xs.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)
}

/// A matrix product for each image: on a GPU, cuBLAS is faster at it than convolutions of one pixel are.
fn pointwise(xs: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let ((images, inputs, height, width), outputs) = (xs.dims4()?, weight.dim(0)?);
    let pixels = xs.contiguous()?.reshape((images, inputs, height * width))?;
    let weights = weight.reshape((outputs, inputs))?.broadcast_left(images)?;
    weights.matmul(&pixels)?.reshape((images, outputs, height, width))
}

/// As [`conv2d`](crate::conv2d), contiguous.
pub(crate) fn conv2d(xs: &Tensor, weight: &Tensor, geometry: ConvGeometry) -> Result<Tensor> {
    if geometry.is_pointwise() {
        return pointwise(xs, weight);
    }
    let ConvGeometry { stride, dilation, padding, groups, .. } = geometry;
    let (xs, padding) = match padding.as_symmetric() {
        Some((rows, columns)) if rows == columns => (xs.clone(), rows),
        _ => (padded(xs, padding)?, 0),
    };
    let (weight, dilation) = match dilation {
        [rows, columns] if rows == columns => (weight.clone(), rows),
        dilation => (spread(weight, dilation)?, 1),
    };
    match stride {
        [rows, columns] if rows == columns => xs.conv2d(&weight, padding, rows, dilation, groups),
        [rows, columns] => {
            every(&every(&xs.conv2d(&weight, padding, 1, dilation, groups)?, 2, rows)?, 3, columns)
        }
    }
}

/// Each `step`th row or column, from the first on.
fn every(xs: &Tensor, dim: usize, step: usize) -> Result<Tensor> {
    if step == 1 {
        return Ok(xs.clone());
    }
    let picked = Tensor::arange_step(0u32, xs.dim(dim)? as u32, step as u32, xs.device())?;
    xs.contiguous()?.index_select(&picked, dim)
}

/// The pixels `by` rows and columns apart, with zeros between them and none behind the last.
fn spread(xs: &Tensor, by: [usize; 2]) -> Result<Tensor> {
    let (n, channels, height, width) = xs.dims4()?;
    let [rows, columns] = by;
    let spread = xs
        .reshape((n, channels, height, 1, width, 1))?
        .pad_with_zeros(3, 0, rows - 1)?
        .pad_with_zeros(5, 0, columns - 1)?
        .reshape((n, channels, height * rows, width * columns))?;
    let spread = resized(&spread, 2, (height - 1) * rows + 1)?;
    resized(&spread, 3, (width - 1) * columns + 1)
}

/// As [`conv2d_input_gradient`](crate::conv2d_input_gradient): a convolution of the gradient, with zeros between its
/// pixels, with the kernels turned.
pub(crate) fn conv2d_input_gradient(
    gradient: &Tensor,
    weight: &Tensor,
    size: [usize; 2],
    geometry: ConvGeometry,
) -> Result<Tensor> {
    let dilated = match geometry.stride {
        [1, 1] => gradient.contiguous()?,
        stride => {
            // As many zeros behind the last pixel as it takes to get the input's size.
            let [rows, columns] = geometry.spread_size(size);
            resized(&resized(&spread(gradient, stride)?, 2, rows)?, 3, columns)?
        }
    };
    let [outputs, inputs, height, width] = geometry.weight_shape();
    let (groups, outputs) = (geometry.groups, outputs / geometry.groups);
    let turned = weight.reshape((groups, outputs, inputs, height, width))?.transpose(1, 2)?.contiguous()?;
    let turned = turned.reshape((groups * inputs, outputs, height, width))?.flip(&[2, 3])?;
    conv2d(&dilated, &turned, geometry.turned())
}

/// Cuts off the end, or adds zeros there.
fn resized(xs: &Tensor, dim: usize, size: usize) -> Result<Tensor> {
    match xs.dim(dim)? {
        have if have > size => xs.narrow(dim, 0, size)?.contiguous(),
        have => xs.pad_with_zeros(dim, 0, size - have),
    }
}

/// As [`conv2d_weight_gradient`](crate::conv2d_weight_gradient): for each group, a convolution of the images with the
/// gradients, whose pixels are as far apart as the windows were, summed over the images.
pub(crate) fn conv2d_weight_gradient(
    xs: &Tensor,
    gradient: &Tensor,
    geometry: ConvGeometry,
) -> Result<Tensor> {
    let swapped = |xs: &Tensor| xs.transpose(0, 1)?.contiguous();
    let [outputs, inputs, height, width] = geometry.weight_shape();
    let outputs = outputs / geometry.groups;
    let group = |group: usize| -> Result<Tensor> {
        let xs = swapped(&xs.narrow(1, group * inputs, inputs)?)?;
        let gradient = swapped(&gradient.narrow(1, group * outputs, outputs)?)?;
        let kernel = [gradient.dim(2)?, gradient.dim(3)?];
        let over_images = ConvGeometry {
            stride: geometry.dilation,
            dilation: geometry.stride,
            padding: geometry.padding,
            ..ConvGeometry::new(xs.dim(1)?, outputs, kernel)
        };
        let sums = conv2d(&xs, &gradient, over_images)?;
        // More rows and columns than the kernel's where windows do not reach the end of the image.
        sums.narrow(2, 0, height)?.narrow(3, 0, width)?.transpose(0, 1)?.contiguous()
    };
    Tensor::cat(&(0..geometry.groups).map(group).collect::<Result<Vec<_>>>()?, 0)
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
        let of = |kernel: [usize; 2], stride: [usize; 2], padding: Padding| {
            ConvGeometry::new(3, 4, kernel).with_stride(stride).with_padding(padding)
        };
        let symmetric = Padding::symmetric;
        let uneven = Padding { top: 0, bottom: 1, left: 2, right: 1 };
        let grouped = ConvGeometry::new(4, 6, [3, 2]).with_groups(2);
        for geometry in [
            of([3, 3], [1, 1], symmetric(1, 1)),
            of([3, 3], [2, 2], symmetric(1, 1)),
            of([1, 1], [1, 1], Padding::ZERO),
            of([1, 1], [2, 2], Padding::ZERO),
            of([1, 7], [1, 1], symmetric(0, 3)),
            of([3, 3], [2, 2], Padding::ZERO),
            of([7, 7], [2, 2], symmetric(3, 3)),
            of([5, 3], [3, 3], symmetric(2, 0)),
            of([3, 3], [2, 1], uneven),
            of([3, 2], [1, 3], uneven).with_dilation([2, 1]),
            of([3, 3], [2, 2], symmetric(2, 2)).with_dilation([2, 2]),
            of([1, 1], [1, 1], symmetric(1, 2)),
            grouped,
            grouped.with_stride([1, 2]).with_padding(uneven).with_dilation([2, 3]),
            ConvGeometry::new(5, 5, [3, 3]).with_groups(5).with_padding(symmetric(1, 1)).with_stride([2, 2]),
        ] {
            for [height, width] in [[9, 8], [12, 7]] {
                let what = format!("{geometry:?}, {height}×{width}");
                let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu);
                let xs = random(&[2, geometry.inputs, height, width])?;
                let weight = random(&geometry.weight_shape())?;
                let ys = crate::conv2d(&xs, &weight, geometry)?;
                close(&conv2d(&xs, &weight, geometry)?, &ys, &what)?;
                let gradient = random(ys.dims())?;
                let expected = crate::conv2d_weight_gradient(&xs, &gradient, geometry)?;
                close(&conv2d_weight_gradient(&xs, &gradient, geometry)?, &expected, &what)?;
                let (span, padding) = (geometry.span(), geometry.padding.by_axis());
                // Others are cut off before the device is asked for.
                if (0..2).all(|axis| padding[axis].iter().all(|&rows| rows < span[axis])) {
                    let expected =
                        crate::conv2d_input_gradient(&gradient, &weight, [height, width], geometry)?;
                    close(
                        &conv2d_input_gradient(&gradient, &weight, [height, width], geometry)?,
                        &expected,
                        &what,
                    )?;
                }
            }
        }
        Ok(())
    }
}
