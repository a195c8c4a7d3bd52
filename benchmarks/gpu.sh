#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: the tests, compute-sanitizer where it is, and all GPU tables of docs/performance.md.
# Needs nvcc and cuDNN (docs/cuda.md), and a Python with benchmarks/requirements.txt as PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
features=${FEATURES:-cuda,cudnn}

all=$(for crate in cnn-kernels approx-ops approx-models; do printf "$crate/%s," ${features//,/ }; done)
cargo test -p cnn-kernels -p approx-ops -p approx-models --features "$all"
if command -v compute-sanitizer > /dev/null; then
  for test in launches inputs activations; do
    binary=$(cargo test -p approx-ops --features "$features" --test $test --no-run --message-format json |
      "$python" -c 'import json, sys
print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")][-1])')
    compute-sanitizer --error-exitcode 1 "$binary"
  done
else
  echo "SKIPPED: compute-sanitizer is not there" >&2
fi
cargo run -p approx-ops --features "$features" --example gpu_bandwidth -- --write docs/performance.md
"$python" benchmarks/compare.py --device cuda --features "$features" --compile-mode max-autotune --write docs/performance.md
"$python" benchmarks/compare.py --dataset imagenet --device cuda --features "$features" --write docs/performance.md
