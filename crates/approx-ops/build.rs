//! Compiles the CUDA kernels to PTX, which the driver compiles for its device when it is loaded. Only with the feature
//! `cuda`; without it nothing is looked for.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a toolkit may be, besides the search path.
const TOOLKITS: [&str; 4] = ["CUDA_PATH", "CUDA_HOME", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"];

/// The oldest devices that nvcc 13 compiles for. Newer ones run their PTX, too.
const ARCHITECTURE: &str = "compute_75";

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for variable in TOOLKITS.iter().chain(&["NVCC", "NVCC_CCBIN"]) {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let nvcc = nvcc();
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for name in ["activation", "conv", "max_pool"] {
        let source = Path::new("kernels").join(name).with_extension("cu");
        // No contraction: what is fused is written as such, so that the CPU's results are the same.
        let done = Command::new(&nvcc)
            .args(["--ptx", "-std=c++17", "-O3", "--fmad=false", "-arch", ARCHITECTURE, "-o"])
            .args([output.join(name).with_extension("ptx").as_os_str(), source.as_os_str()])
            .output();
        match done {
            Err(error) => fail(&format!(
                "the feature `cuda` needs nvcc of the CUDA toolkit; {} cannot be run: {error}. Put it on PATH, or its \
                 toolkit's folder in CUDA_PATH (docs/cuda.md)",
                nvcc.display()
            )),
            Ok(done) if !done.status.success() => {
                fail(&format!(
                    "nvcc does not compile {}:\n{}",
                    source.display(),
                    String::from_utf8_lossy(&done.stderr)
                ));
            }
            Ok(_) => {}
        }
    }
}

/// From `NVCC`, from a toolkit that a variable names, or from the search path.
fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    let toolkits = TOOLKITS.iter().filter_map(env::var_os).map(PathBuf::from);
    let common = Path::new("/usr/local/cuda").to_owned();
    let found = toolkits.map(|toolkit| toolkit.join("bin/nvcc")).find(|nvcc| nvcc.exists());
    let on_path = || {
        env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join("nvcc")).find(|nvcc| nvcc.exists())
    };
    let usual = || Some(common.join("bin/nvcc")).filter(|nvcc| nvcc.exists());
    found.or_else(on_path).or_else(usual).unwrap_or_else(|| "nvcc".into())
}

fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo::error={line}");
    }
    std::process::exit(1);
}
