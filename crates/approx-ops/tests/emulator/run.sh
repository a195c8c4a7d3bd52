#!/usr/bin/env bash
# Tests the launches of the CUDA kernels on a machine with no GPU: tests/launches.rs and accuracy.rs, with a driver that
# runs the kernels on the CPU. Needs nvcc (docs/cuda.md), because candle has kernels of its own to compile, and gcc.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
: "${CUDA_PATH:?the folder of a CUDA toolkit}"
flags=(-shared -fPIC -O2 -march=native -w)
g++ "${flags[@]}" -x c++ -std=c++17 -ffp-contract=off -I "$here/../../kernels" -Wl,-soname,libcuda.so.1 \
  -o "$folder/libcuda.so.1" "$here/driver.cpp"
for library in "$CUDA_PATH"/lib*/libcublas.so.[0-9]* "$CUDA_PATH"/lib*/libcurand.so.[0-9]*; do
  name=$(basename "$library")
  # Their symbols have the library's name as their version.
  echo "$name { global: *; };" > "$folder/version"
  gcc "${flags[@]}" -Wl,-soname,"$name" -Wl,--version-script="$folder/version" -o "$folder/$name" "$here/libraries.c"
done
cd "$here/../.."
tests=(--test launches --test accuracy)
cargo test --features cuda "${tests[@]}" --no-run
LD_LIBRARY_PATH="$folder:$CUDA_PATH/lib64:$CUDA_PATH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
  cargo test --features cuda "${tests[@]}"
