//! Encoded pictures to 8-bit RGB, as Pillow's `Image.open(file).convert("RGB")` does it.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Above this a file is taken for an attack, as by Pillow.
const MAX_PIXELS: u64 = 178_956_970;

/// Red, green and blue, pixel by pixel, row by row.
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<u8>,
}

/// Decodes a picture, whatever it is called.
pub(crate) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    if bytes.is_empty() {
        return Err("is an empty file".to_owned());
    }
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => decode_jpeg(bytes),
        Ok(format) if format.reading_enabled() => decode_other(bytes, format),
        Ok(format) => {
            Err(format!("is {format:?}, which is not read; JPEG, PNG, WebP, BMP and PNM are").to_owned())
        }
        Err(_) => Err("is not a picture that is read; JPEG, PNG, WebP, BMP and PNM are".to_owned()),
    }
}

fn check_size(width: u64, height: u64) -> Result<(), String> {
    match width * height {
        0 => Err(format!("is {width}×{height}")),
        pixels if pixels > MAX_PIXELS => {
            Err(format!("is {width}×{height}, but at most {MAX_PIXELS} pixels are read"))
        }
        _ => Ok(()),
    }
}

fn decode_other(bytes: &[u8], format: ImageFormat) -> Result<Picture, String> {
    let error = |e: image::ImageError| e.to_string();
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    // Up to 16 bits of four channels.
    limits.max_alloc = Some(8 * MAX_PIXELS);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(error)?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into())?;
    let pixels = match DynamicImage::from_decoder(decoder).map_err(error)? {
        // Pillow reads grey of 16 bits as numbers and clips them.
        DynamicImage::ImageLuma16(grey) => {
            grey.into_raw().into_iter().flat_map(|p| [p.min(255) as u8; 3]).collect()
        }
        // Of other 16-bit pictures it takes the high byte.
        DynamicImage::ImageLumaA16(image) => image.pixels().flat_map(|p| [high(p.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(image) => image.into_raw().into_iter().map(high).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|p| [high(p.0[0]), high(p.0[1]), high(p.0[2])]).collect()
        }
        // Drops alpha.
        other => other.into_rgb8().into_raw(),
    };
    Ok(Picture { width: width as usize, height: height as usize, pixels })
}

fn high(value: u16) -> u8 {
    value.to_be_bytes()[0]
}

fn decode_jpeg(bytes: &[u8]) -> Result<Picture, String> {
    let error = |e: DecodeErrors| e.to_string();
    check_end(bytes)?;
    // Not strict, since Pillow takes what is slightly damaged, too.
    let options =
        DecoderOptions::default().set_strict_mode(false).set_max_width(65_535).set_max_height(65_535);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(error)?;
    let (width, height) = decoder.dimensions().expect("headers were decoded");
    check_size(width as u64, height as u64)?;
    let input = decoder.input_colorspace().expect("headers were decoded");
    let output = match input {
        ColorSpace::CMYK | ColorSpace::YCCK => input,
        _ => ColorSpace::RGB,
    };
    decoder.set_options(options.jpeg_set_out_colorspace(output));
    let decoded = decoder.decode().map_err(error)?;
    let pixels = match input {
        ColorSpace::CMYK => {
            decoded.chunks_exact(4).flat_map(|p| [0, 1, 2].map(|i| ink(255 - p[i], p[3]))).collect()
        }
        ColorSpace::YCCK => {
            decoded.chunks_exact(4).flat_map(|p| ycc_to_rgb(p).map(|c| ink(c, p[3]))).collect()
        }
        _ => decoded,
    };
    if pixels.len() != width * height * 3 {
        return Err(format!("has colours of a kind that is not read ({input:?})"));
    }
    Ok(Picture { width, height, pixels })
}

/// Fails if the file is cut short: decoders fill with grey what is missing.
fn check_end(bytes: &[u8]) -> Result<(), String> {
    const END: [u8; 2] = [0xff, 0xd9];
    const SCAN: u8 = 0xda;
    // Headers may hold whole thumbnails, so the end is looked for behind the first scan's header.
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        if marker == 0xff {
            at += 1;
            continue;
        }
        if marker == SCAN {
            let scans = &bytes[at..];
            return match scans.windows(2).rev().any(|pair| pair == END) {
                true => Ok(()),
                false => Err(format!("is cut short: {} bytes without an end-of-image marker", bytes.len())),
            };
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    // Something odd between headers, which the decoder may know what to do with, or an early end.
    match at + 4 > bytes.len() {
        true => Err(format!("is cut short: its headers go beyond its {} bytes", bytes.len())),
        false => Ok(()),
    }
}

/// Full-range YCbCr to RGB, as JFIF defines it.
fn ycc_to_rgb(pixel: &[u8]) -> [u8; 3] {
    let [y, cb, cr] = [0, 1, 2].map(|i| f32::from(pixel[i]));
    let (cb, cr) = (cb - 128.0, cr - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|c| c.round() as u8)
}

/// What is left of the light after so much of an ink, 0 to 255, and of black, of which `white` is left.
fn ink(amount: u8, white: u8) -> u8 {
    let product = u32::from(amount) * u32::from(white) + 128;
    let absorbed = (product + (product >> 8)) >> 8;
    white.saturating_sub(absorbed as u8)
}
