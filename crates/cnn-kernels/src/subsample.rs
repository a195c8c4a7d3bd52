//! The shortcut without parameters of the CIFAR-10 ResNets ("option A" of He et al., arXiv 1512.03385, section 4.2).

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use crate::cpu::{as_f32, dense};
use crate::error::{Result, check_dtype};

/// Every second row and column, and zero channels on both sides: as many in front as behind, or one fewer.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the result: `[N, outputs, ⌈H/2⌉, ⌈W/2⌉]`, channels-last in memory.
///
/// # Errors
/// [`KernelError::UnsupportedDType`](crate::KernelError::UnsupportedDType), or candle's own for another rank.
///
/// # Panics
/// If there are fewer `outputs` than channels.
pub fn subsample(xs: &Tensor, outputs: usize) -> Result<Tensor> {
    check_dtype("subsample", xs.dtype())?;
    let (_, channels, height, width) = xs.dims4()?;
    assert!(outputs >= channels, "channels are added, not left out");
    let op = Op { wide: [height, width, channels], outputs, direction: Direction::Forward };
    Ok(xs.permute((0, 2, 3, 1))?.apply_op1(op)?.permute((0, 3, 1, 2))?)
}

/// The gradient of the input of [`subsample`] from that of its result.
///
/// # Shapes
/// `gradient`: as the result of [`subsample`]; the result: `[N, channels, *size]`, channels-last in memory.
///
/// # Errors
/// As [`subsample`].
pub fn subsample_gradient(gradient: &Tensor, channels: usize, size: (usize, usize)) -> Result<Tensor> {
    check_dtype("subsample", gradient.dtype())?;
    let (_, outputs, ..) = gradient.dims4()?;
    let op = Op { wide: [size.0, size.1, channels], outputs, direction: Direction::Backward };
    Ok(gradient.permute((0, 2, 3, 1))?.apply_op1_no_bwd(&op)?.permute((0, 3, 1, 2))?)
}

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Backward,
}

/// On `[N, H, W, C]`.
#[derive(Clone, Copy)]
struct Op {
    /// Height, width and channels before.
    wide: [usize; 3],
    outputs: usize,
    direction: Direction,
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "subsample"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let Self { wide: [height, width, channels], outputs, direction } = *self;
        let images = layout.shape().dims4()?.0;
        let values = &*dense(as_f32(storage)?, layout);
        let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
        let front = (outputs - channels) / 2;
        let shape = match direction {
            Direction::Forward => (images, rows, columns, outputs),
            Direction::Backward => (images, height, width, channels),
        };
        let mut result = vec![0.0; Shape::from(shape).elem_count()];
        if !result.is_empty() {
            let image = result.len() / images;
            result.par_chunks_mut(image).zip(values.par_chunks(values.len() / images)).for_each(
                |(to, from)| {
                    for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                        let wide = (2 * y * width + 2 * x) * channels..(2 * y * width + 2 * x + 1) * channels;
                        let start = (y * columns + x) * outputs + front;
                        let narrow = start..start + channels;
                        match direction {
                            Direction::Forward => to[narrow].copy_from_slice(&from[wide]),
                            Direction::Backward => to[wide].copy_from_slice(&from[narrow]),
                        }
                    }
                },
            );
        }
        Ok((CpuStorage::F32(result), Shape::from(shape)))
    }

    fn bwd(&self, _arg: &Tensor, _res: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let back = Op { direction: Direction::Backward, ..*self };
        Ok(Some(gradient.apply_op1_no_bwd(&back)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn every_second_pixel_keeps_its_channels_and_its_gradient() -> Result<(), Box<dyn std::error::Error>> {
        for (n, c, h, w, outputs) in [(2, 2, 3, 4, 4), (1, 3, 2, 2, 6), (1, 2, 4, 4, 2)] {
            let xs = Var::from_tensor(&Tensor::randn(0f32, 1.0, (n, c, h, w), &Device::Cpu)?)?;
            let ys = subsample(&xs, outputs)?;
            let (rows, columns) = (h.div_ceil(2), w.div_ceil(2));
            assert_eq!(ys.dims(), [n, outputs, rows, columns]);
            let front = (outputs - c) / 2;
            let picked = Tensor::arange_step(0u32, h as u32, 2, &Device::Cpu)?;
            let expected = xs.index_select(&picked, 2)?;
            let expected =
                expected.index_select(&Tensor::arange_step(0u32, w as u32, 2, &Device::Cpu)?, 3)?;
            let expected = expected.pad_with_zeros(1, front, outputs - c - front)?;
            let weights = Tensor::randn(0f32, 1.0, expected.shape(), &Device::Cpu)?;
            let flat = |xs: &Tensor| xs.flatten_all().and_then(|xs| xs.to_vec1::<f32>());
            assert_eq!(flat(&ys)?, flat(&expected)?);
            let gradient = |ys: &Tensor| -> Result<_, Box<dyn std::error::Error>> {
                let gradients = (ys * &weights)?.sum_all()?.backward()?;
                Ok(flat(gradients.get(&xs).expect("it depends on it"))?)
            };
            assert_eq!(gradient(&ys)?, gradient(&expected)?);
        }
        Ok(())
    }
}
