//! What the machine can do at most, measured.

use std::fmt;
use std::hint::black_box;
use std::time::Instant;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Multiply-adds that do not wait for each other: more than latency times throughput, and few enough for registers.
const CHAINS: usize = 12;
/// A fraction of a millisecond: most are not interrupted, even if the machine has something else to do.
const STEPS: usize = 1 << 15;
/// Numbers to copy: much more than caches hold.
const COPIED: usize = 32 << 20;
const REPEATS: usize = 25;

/// Of all threads together, a second.
pub struct Peak {
    /// Floating-point operations in fused multiply-adds, two each, between registers.
    pub operations: f64,
    /// Bytes read and written by a copy from memory to memory.
    pub bytes: f64,
}

impl Peak {
    pub fn measure() -> Self {
        let source = vec![1f32; COPIED];
        let mut target = vec![0f32; COPIED];
        let copy = || {
            let chunks = source.par_chunks(1 << 16).zip(target.par_chunks_mut(1 << 16));
            chunks.for_each(|(source, target)| target.copy_from_slice(source));
            black_box(&mut target);
            (2 * COPIED * size_of::<f32>()) as f64
        };
        let multiply_add = || upper(speeds(100 * REPEATS, || pulp::Arch::new().dispatch(MultiplyAdd)));
        Self {
            operations: rayon::broadcast(|_| multiply_add()).iter().sum(),
            bytes: upper(speeds(REPEATS, copy)),
        }
    }

    /// The speed of `operations` in `seconds`, in the unit GFLOP/s, however that is called.
    pub fn compute_share(&self, operations: usize, unit: &str, seconds: f64) -> String {
        let speed = operations as f64 / seconds;
        let share = 100.0 * speed / self.operations;
        format!("{}, {:.1} {unit}, {share:.0} % of peak", duration(seconds), speed / 1e9)
    }

    /// The speed of reading and writing so many numbers in all.
    pub fn memory_share(&self, numbers: usize, seconds: f64) -> String {
        let speed = (numbers * size_of::<f32>()) as f64 / seconds;
        let share = 100.0 * speed / self.bytes;
        format!("{}, {:.1} GB/s, {share:.0} % of memory's peak", duration(seconds), speed / 1e9)
    }
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (threads, simd) = (rayon::current_num_threads(), cnn_kernels::SimdLevel::current());
        let (operations, bytes) = (self.operations / 1e9, self.bytes / 1e9);
        write!(
            f,
            "{threads} threads, {simd}: {operations:.1} GFLOP/s of multiply-adds, {bytes:.1} GB/s of copying"
        )
    }
}

/// The speeds of something that gives the work it did.
fn speeds(repeats: usize, mut work: impl FnMut() -> f64) -> Vec<f64> {
    let speed = |_| {
        let start = Instant::now();
        work() / start.elapsed().as_secs_f64()
    };
    (0..repeats).map(speed).collect()
}

/// What nine of ten do not exceed: the machine undisturbed, without the odd one out.
fn upper(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() * 9 / 10]
}

struct MultiplyAdd;

impl WithSimd for MultiplyAdd {
    /// How many floating-point operations it did.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (x, y) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(0.25)));
        let mut sums = [simd.splat_f32s(0.0); CHAINS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(x, y, *sum);
            }
        }
        black_box(sums);
        (2 * CHAINS * STEPS * S::F32_LANES) as f64
    }
}

fn duration(seconds: f64) -> String {
    if seconds < 1e-3 { format!("{:.1} µs", 1e6 * seconds) } else { format!("{:.2} ms", 1e3 * seconds) }
}
