//! Logits as a file, and hashes.

use std::io::{self, Read};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::evaluate::Logits;

/// Writes `exact` and `approx` (`[N, classes]`, float32) and `labels` (`[N]`, int64) as safetensors.
///
/// # Errors
/// [`EvalError::Write`](crate::EvalError::Write) with the path.
pub fn write_logits(path: &Path, exact: &Logits, approx: &Logits, labels: &[u16]) -> Result<()> {
    let float32 =
        |logits: &Logits| -> Vec<u8> { logits.values().iter().flat_map(|x| x.to_le_bytes()).collect() };
    let (exact_bytes, approx_bytes) = (float32(exact), float32(approx));
    let label_bytes: Vec<u8> = labels.iter().flat_map(|&label| i64::from(label).to_le_bytes()).collect();
    let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).expect("the sizes fit");
    let tensors = [
        ("exact", view(Dtype::F32, vec![labels.len(), exact.classes()], &exact_bytes)),
        ("approx", view(Dtype::F32, vec![labels.len(), approx.classes()], &approx_bytes)),
        ("labels", view(Dtype::I64, vec![labels.len()], &label_bytes)),
    ];
    let bytes = safetensors::serialize(tensors, None).expect("there is no header to fit");
    Ok(atomic_file::write(path, &bytes)?)
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// The file system's.
pub fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// The SHA-256 of some bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn sha256_is_the_standards() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abc").unwrap();
        assert_eq!(sha256_of_file(file.path()).unwrap(), sha256(b"abc"));
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
