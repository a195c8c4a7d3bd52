//! Which vector instructions the CPU kernels use.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{KernelError, Result};

/// A set of vector instructions. The best one is found at run time; one binary runs on all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimdLevel {
    /// No more than the compilation target guarantees, without fused multiply-add.
    Portable,
    /// ARM's NEON, 4 lanes.
    Neon,
    /// AVX2 and FMA, 8 lanes.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL, CD), 16 lanes.
    Avx512,
}

const ALL: [SimdLevel; 4] = [SimdLevel::Portable, SimdLevel::Neon, SimdLevel::Avx2, SimdLevel::Avx512];

/// The index in `ALL` of the level in force; `UNSET` before the first use.
static CURRENT: AtomicU8 = AtomicU8::new(UNSET);
const UNSET: u8 = u8::MAX;

impl SimdLevel {
    /// All levels that this processor has, the fastest last.
    pub fn available() -> Vec<SimdLevel> {
        ALL.into_iter().filter(|level| level.is_available()).collect()
    }

    /// The level in force: the fastest available one, or the one that was forced.
    pub fn current() -> SimdLevel {
        match CURRENT.load(Ordering::Relaxed) {
            UNSET => {
                let best = *Self::available().last().expect("portable is always there");
                CURRENT.store(best as u8, Ordering::Relaxed);
                best
            }
            index => ALL[usize::from(index)],
        }
    }

    /// Makes all ops of this process use `level`.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedSimd`] if this processor does not have it.
    pub fn force(level: SimdLevel) -> Result<()> {
        if !level.is_available() {
            let available = Self::available().iter().map(Self::to_string).collect();
            return Err(KernelError::UnsupportedSimd { requested: level.to_string(), available });
        }
        CURRENT.store(level as u8, Ordering::Relaxed);
        Ok(())
    }

    fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => pulp::aarch64::Neon::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::is_available(),
            #[allow(unreachable_patterns, reason = "which levels remain depends on the architecture")]
            _ => false,
        }
    }

    /// Runs `op` with these instructions.
    pub fn run<Op: pulp::WithSimd>(self, op: Op) -> Op::Output {
        self.arch().dispatch(op)
    }

    #[cfg(target_arch = "x86_64")]
    fn arch(self) -> pulp::Arch {
        let checked = "availability is checked when a level is chosen";
        match self {
            Self::Avx512 => pulp::Arch::V4(pulp::x86::V4::try_new().expect(checked)),
            Self::Avx2 => pulp::Arch::V3(pulp::x86::V3::try_new().expect(checked)),
            Self::Portable | Self::Neon => pulp::Arch::Scalar,
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn arch(self) -> pulp::Arch {
        match self {
            Self::Neon => pulp::Arch::new(),
            Self::Portable | Self::Avx2 | Self::Avx512 => pulp::Arch::Scalar,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn arch(self) -> pulp::Arch {
        pulp::Arch::Scalar
    }
}

impl fmt::Display for SimdLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}
