//! How much of a GPU's memory bandwidth the kernels use: their bytes per second as a share of a copy's on the device.
//!
//! `cargo run -p approx-ops --features cuda --example gpu_bandwidth [-- --write docs/performance.md]`

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use approx_ops::{Activation, MinimaxMaxPool, MinimaxRelu, PoolSpec, Precision, RangeRecorder, max_pool};
use candle_core::{Device, Tensor};
use minimax_coeffs::fitted::{Density, FLOOR, Fit};
use minimax_coeffs::{ActivationFunction, Alpha};

/// Times each op runs between two looks at the clock, and such runs.
const REPETITIONS: u32 = 20;
const RUNS: usize = 7;
/// Images and channels of 112×112 pixels: 411 MB, beyond any cache.
const IMAGES: [usize; 4] = [128, 64, 112, 112];
const MARKERS: [&str; 2] = ["<!-- gpu_bandwidth: begin -->", "<!-- gpu_bandwidth: end -->"];

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::new_cuda(0)?;
    let xs = Tensor::randn(0f32, 5.0, &IMAGES, &device)?;
    let bytes = (xs.elem_count() * size_of::<f32>()) as f64;
    let copy = 2.0 * bytes / seconds(&device, || Ok(xs.copy()?))?;
    let mut rows = vec![("copy on the device".to_owned(), copy)];

    let range = RangeRecorder::default();
    let alphas = [4, 7, 10, 14].map(|bits| Alpha::new(bits).expect("it is published"));
    let minimax = |alpha: Alpha| MinimaxRelu::new(alpha, 100.0);
    let mut activations = vec![("exact".to_owned(), Activation::RELU)];
    for alpha in alphas {
        activations.push((format!("alpha {alpha}"), minimax(alpha)?.into()));
    }
    activations.push((
        "alpha 14, float64".to_owned(),
        minimax(Alpha::MAX)?.with_precision(Precision::Double).into(),
    ));
    // Inputs as the images here have them, but for those that are farther out.
    let bell = (-300..=300).map(|i| f64::from(i) / 10.0).map(|x| (x, (-x * x / 50.0).exp()));
    let fit = Fit::new(ActivationFunction::Relu, &Density::new(bell)?, [-100.0, 100.0], FLOOR)?;
    for degree in [7, 15, 27, 63] {
        activations.push((format!("fitted, degree {degree}"), Activation::fitted(&fit.polynomial(degree)?)?));
    }
    let (bias, zeros) = (Tensor::zeros(IMAGES[1], xs.dtype(), &device)?, xs.zeros_like()?);
    for (name, relu) in &activations {
        let time = seconds(&device, || Ok(relu.forward(&xs, &range)?))?;
        rows.push((format!("ReLU, {name}"), 2.0 * bytes / time));
        let ys = xs.copy()?;
        let time = seconds(&device, || Ok(relu.apply_in_place(&ys, &bias, Some(&zeros), Some(&range))?))?;
        rows.push((format!("bias, addend and ReLU in place, {name}"), 3.0 * bytes / time));
    }
    for (kernel, stride, padding) in [(2, 2, 0), (3, 2, 1)] {
        let spec = PoolSpec::new(kernel, stride, padding)?;
        let (height, width) = spec.output_size(IMAGES[2], IMAGES[3]).ok_or("the image is large enough")?;
        let moved = bytes * (1.0 + (height * width) as f64 / (IMAGES[2] * IMAGES[3]) as f64);
        let time = seconds(&device, || Ok(max_pool(&xs, &spec, &range)?))?;
        rows.push((format!("max-pooling {kernel}×{kernel}, exact"), moved / time));
        for alpha in [7, 14].map(|bits| Alpha::new(bits).expect("it is published")) {
            let pool = MinimaxMaxPool::new(alpha, 100.0, spec)?;
            let time = seconds(&device, || Ok(pool.forward(&xs, &range)?))?;
            rows.push((format!("max-pooling {kernel}×{kernel}, alpha {alpha}"), moved / time));
        }
    }

    let context = device.as_cuda_device()?.cuda_stream().context().clone();
    let mut text =
        format!("{}, {RUNS} runs of {REPETITIONS}, medians; {IMAGES:?}, float32.\n\n", context.name()?);
    text += "| op | GB/s | share of the copy |\n|---|---|---|\n";
    for (name, speed) in rows {
        text += &format!("| {name} | {:.0} | {:.0} % |\n", speed / 1e9, 100.0 * speed / copy);
    }
    println!("{text}");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => Ok(()),
        [option, file] if option == "--write" => write_between_markers(Path::new(file), &text),
        _ => Err("usage: gpu_bandwidth [--write FILE]".into()),
    }
}

/// The median time of one call, with the device waited for once a run.
fn seconds<T>(
    device: &Device,
    mut op: impl FnMut() -> Result<T, Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let mut times = Vec::with_capacity(RUNS);
    for run in 0..=RUNS {
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..REPETITIONS {
            op()?;
        }
        device.synchronize()?;
        // The first one warms up.
        if run > 0 {
            times.push(start.elapsed().as_secs_f64() / f64::from(REPETITIONS));
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

fn write_between_markers(file: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let document = std::fs::read_to_string(file)?;
    let [begin, end] = MARKERS.map(|marker| document.find(marker));
    let (Some(begin), Some(end)) = (begin, end) else {
        return Err(format!("{} must have {} and {}", file.display(), MARKERS[0], MARKERS[1]).into());
    };
    let document = format!("{}\n{text}{}", &document[..begin + MARKERS[0].len()], &document[end..]);
    Ok(std::fs::write(file, document)?)
}
