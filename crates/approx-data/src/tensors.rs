//! Images that somebody else has loaded.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::error::{DataError, Result, check_label};
use crate::image_set::ImageSet;

/// By how much a pixel may differ from a whole number of 255ths, in these.
const TOLERANCE: f32 = 0.01;

impl ImageSet {
    /// Images from tensors, as other loaders give them.
    ///
    /// # Shapes
    /// `images`: `[N, …]` with the elements of `shape`, which is `[channels, height, width]`, for each image, in row-major
    /// order; either bytes, or floating-point numbers from 0 to 1 that are bytes divided by 255. `labels`: `[N]`, of any
    /// type of whole numbers.
    ///
    /// ```
    /// use approx_data::ImageSet;
    /// use candle_core::{Device, Tensor};
    ///
    /// let images = Tensor::new(&[[0f32, 1.0, 0.2, 0.4]], &Device::Cpu)?;
    /// let labels = Tensor::new(&[3u8], &Device::Cpu)?;
    /// let set = ImageSet::from_tensors(&images, &labels, [1, 2, 2], 10)?;
    /// assert_eq!((set.image(0), set.labels()), (&[0, 255, 51, 102][..], &[3][..]));
    /// # Ok::<(), approx_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// [`DataError::Tensors`] for other shapes, types and pixels, [`DataError::LabelOutOfRange`]; candle's.
    pub fn from_tensors(images: &Tensor, labels: &Tensor, shape: [usize; 3], classes: usize) -> Result<Self> {
        let wrong = |what: String| Err(DataError::Tensors { what });
        let count = labels.elem_count();
        let dims = images.dims();
        let per_image = dims.iter().skip(1).product::<usize>();
        if labels.rank() != 1 || dims.first() != Some(&count) || per_image != shape.iter().product::<usize>()
        {
            return wrong(format!(
                "images of {dims:?} with labels of {:?} are not [N, …] of {shape:?} and [N]",
                labels.dims()
            ));
        }
        if labels.dtype().is_float() {
            return wrong(format!("the labels are {:?}, not whole numbers", labels.dtype()));
        }
        let labels: Vec<i64> = labels.to_device(&Device::Cpu)?.to_dtype(DType::I64)?.to_vec1()?;
        let labels = labels.into_iter().enumerate();
        let labels =
            labels.map(|(index, label)| check_label(Path::new("the tensors"), index, label, classes));
        let flat = images.to_device(&Device::Cpu)?.flatten_all()?;
        let pixels = match flat.dtype() {
            DType::U8 => flat.to_vec1()?,
            dtype if dtype.is_float() => {
                let values: Vec<f32> = flat.to_dtype(DType::F32)?.to_vec1()?;
                let mut pixels = Vec::with_capacity(values.len());
                for (index, value) in values.into_iter().enumerate() {
                    let level = value * 255.0;
                    // False for NaN, too.
                    let is_byte = (-TOLERANCE..=255.0 + TOLERANCE).contains(&level)
                        && (level - level.round()).abs() <= TOLERANCE;
                    if !is_byte {
                        let image = index / per_image;
                        return wrong(format!(
                            "image {image} has the pixel {value}, which is no byte divided by 255"
                        ));
                    }
                    pixels.push(level.round() as u8);
                }
                pixels
            }
            dtype => {
                return wrong(format!("the images are {dtype:?}, neither bytes nor floating-point numbers"));
            }
        };
        Ok(Self::new(pixels, labels.collect::<Result<_>>()?, shape, classes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<T: candle_core::WithDType>(values: &[T], dims: &[usize]) -> Tensor {
        Tensor::from_slice(values, dims, &Device::Cpu).unwrap()
    }

    #[test]
    fn every_byte_comes_back_from_floating_point_numbers() {
        let bytes: Vec<u8> = (0..=255).collect();
        let shares: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
        let doubles: Vec<f64> = bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect();
        let (flat, whole) = ([2, 128], [2, 2, 8, 8]);
        let labels = tensor(&[7u32, 0], &[2]);
        for images in [
            tensor(&bytes, &whole),
            tensor(&shares, &flat),
            tensor(&shares, &whole),
            tensor(&doubles, &flat),
            // candle's own arithmetic.
            (tensor(&bytes, &flat).to_dtype(DType::F32).unwrap() / 255.0).unwrap(),
        ] {
            let set = ImageSet::from_tensors(&images, &labels, [2, 8, 8], 8).unwrap();
            assert_eq!([set.image(0), set.image(1)].concat(), bytes);
            assert_eq!(set.labels(), [7, 0]);
        }
        // Tensors have strides.
        let turned = tensor(&bytes[..4], &[2, 2]).t().unwrap();
        let set = ImageSet::from_tensors(&turned, &labels, [1, 1, 2], 8).unwrap();
        assert_eq!([set.image(0), set.image(1)], [[0, 2], [1, 3]]);
    }

    #[test]
    fn what_are_no_images_is_refused_with_the_numbers() {
        let (images, labels) = (tensor(&[0u8; 12], &[2, 6]), tensor(&[1u8, 2], &[2]));
        let shape = [1, 2, 3];
        ImageSet::from_tensors(&images, &labels, shape, 3).unwrap();
        let pixel = |value: f32| tensor(&[0.0, 0.0, value, 0.0], &[2, 2]);
        for (images, labels, shape, expected) in [
            (
                &images,
                &labels,
                [1, 2, 2],
                "images of [2, 6] with labels of [2] are not [N, …] of [1, 2, 2] and [N]",
            ),
            (&images, &tensor(&[1u8], &[1]), shape, "images of [2, 6] with labels of [1] are not"),
            (&images, &tensor(&[1u8, 2], &[2, 1]), shape, "labels of [2, 1]"),
            (&images, &tensor(&[1f32, 2.0], &[2]), shape, "the labels are F32, not whole numbers"),
            (&images, &tensor(&[1i64, -2], &[2]), shape, "the tensors: image 1 has the label -2"),
            (&images, &tensor(&[3u8, 2], &[2]), shape, "image 0 has the label 3, but labels go from 0 to 2"),
            (&tensor(&[0u32; 12], &[2, 6]), &labels, shape, "the images are U32, neither bytes"),
            (&pixel(0.5), &labels, [1, 1, 2], "image 1 has the pixel 0.5, which is no byte divided by 255"),
            (&pixel(255.0), &labels, [1, 1, 2], "image 1 has the pixel 255,"),
            (&pixel(-0.01), &labels, [1, 1, 2], "has the pixel -0.01,"),
            (&pixel(f32::NAN), &labels, [1, 1, 2], "has the pixel NaN,"),
        ] {
            let error = ImageSet::from_tensors(images, labels, shape, 3).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
