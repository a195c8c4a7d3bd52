#!/usr/bin/env bash
# Puts what a build with the feature `cuda` needs into a folder, from NVIDIA's packages on PyPI: nvcc, headers and
# libraries of CUDA 13.0, 1.5 GB. Needs Python with pip, and gcc; no GPU, no driver, no root. Prints the variables to
# set:
#
#     eval "$(benchmarks/cuda-toolkit.sh ~/.cache/cuda-13.0)"
#     cargo build -p infer -p train --features infer/cuda,train/cuda
#
# With a second argument, `cudnn`, cuDNN too (a further 0.8 GB).
set -euo pipefail
folder=${1:?usage: cuda-toolkit.sh FOLDER [cudnn]}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
toolkit=$folder/nvidia/cu13
driver=$folder/driver

# What is in the target folder already, pip would replace.
fetch() {
  python3 -m pip install --quiet --no-deps --target "$@" >&2
}

if [ ! -e "$folder/toolkit-is-complete" ]; then
  rm -rf "$folder/nvidia"
  fetch "$folder" 'nvidia-cuda-nvcc==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*' \
    'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-nvrtc==13.0.*' 'nvidia-cublas==13.0.*' 'nvidia-curand==10.4.*'
  chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*
  ln -sfn lib "$toolkit/lib64"
  for library in cublas cublasLt cudart curand nvrtc; do
    versioned=$(find "$toolkit/lib" -name "lib$library.so.[0-9]*" ! -name '*.alt.*' -printf '%f\n' | head -1)
    ln -sf "$versioned" "$toolkit/lib/lib$library.so"
  done
  # A stand-in for the driver, to link with. Where no real one is, it answers CUDA_ERROR_NO_DEVICE to everything, and the
  # programs run on the CPU.
  mkdir -p "$driver"
  grep -ohE '\bcu[A-Z][A-Za-z0-9]*(_v[0-9]+)?(_ptsz|_ptds)?\b' "$toolkit/include/cuda.h" | sort -u |
    sed 's/.*/int &(void) { return 100; }/' > "$driver/driver.c"
  # In libraries of the toolkit's age, though not in its header.
  echo 'int cuProfilerInitialize(void) { return 100; }' >> "$driver/driver.c"
  gcc -w -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$driver/libcuda.so.1" "$driver/driver.c"
  ln -sf libcuda.so.1 "$driver/libcuda.so"
  touch "$folder/toolkit-is-complete"
fi
if [ "${2:-}" = cudnn ] && [ ! -e "$folder/cudnn-is-complete" ]; then
  rm -rf "$folder/cudnn"
  fetch "$folder/cudnn" 'nvidia-cudnn-cu13==9.*'
  for library in "$folder"/cudnn/nvidia/cudnn/lib/libcudnn*.so.9; do ln -sf "$(basename "$library")" "${library%.9}"; done
  touch "$folder/cudnn-is-complete"
fi

libraries=$toolkit/lib
[ -e "$folder/cudnn-is-complete" ] && libraries=$libraries:$folder/cudnn/nvidia/cudnn/lib
cat <<EOF
export CUDA_PATH='$toolkit' CUDA_HOME='$toolkit' CUDA_COMPUTE_CAP="\${CUDA_COMPUTE_CAP:-90}"
export PATH='$toolkit/bin':"\$PATH"
export LIBRARY_PATH='$libraries:$driver'\${LIBRARY_PATH:+:\$LIBRARY_PATH}
export LD_LIBRARY_PATH="\${LD_LIBRARY_PATH:+\$LD_LIBRARY_PATH:}"'$libraries'
EOF
