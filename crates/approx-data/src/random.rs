//! Random numbers that depend on what they are for and on nothing else.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The random numbers for `purpose` (of at most 8 bytes) in an epoch, for an image or a batch `index`.
///
/// Whoever knows these four goes on where another has stopped: there is no state to keep.
///
/// # Panics
/// If `purpose` is longer than 8 bytes.
pub fn stream(seed: u64, purpose: &str, epoch: usize, index: usize) -> ChaCha8Rng {
    assert!(purpose.len() <= 8, "`{purpose}` is longer than 8 bytes");
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..8 + purpose.len()].copy_from_slice(purpose.as_bytes());
    key[16..24].copy_from_slice(&(epoch as u64).to_le_bytes());
    key[24..].copy_from_slice(&(index as u64).to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use rand::RngCore;

    use super::*;

    #[test]
    fn every_argument_makes_another_stream() {
        let first = |seed, purpose, epoch, index| stream(seed, purpose, epoch, index).next_u64();
        let cases =
            [(1, "crop", 2, 3), (9, "crop", 2, 3), (1, "flip", 2, 3), (1, "crop", 3, 2), (1, "", 2, 3)];
        let mut numbers =
            cases.map(|(seed, purpose, epoch, index)| first(seed, purpose, epoch, index)).to_vec();
        assert_eq!(numbers[0], first(1, "crop", 2, 3));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), cases.len());
    }
}
