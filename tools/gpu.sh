#!/bin/bash
# On a machine with an NVIDIA GPU, CUDA, cuBLAS and cuDNN: builds for it, runs what is tested on a GPU, prints figures.
# Takes a few minutes.
#   gpu.sh [BUILD]     BUILD: folder to build in, default build-cuda
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build-cuda}
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
cmake -S . -B "$build" -G Ninja -DOASIS_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native >"$build.log" 2>&1 ||
    { cat "$build.log"; exit 1; }
ninja -C "$build" | tail -1
"$build/oasis" version | grep -E '^(liboasis|CUDA)'
failed=0
for test in "$build"/tests/test_cuda_* "$build/tests/test_train_gpu" "$build/tests/test_train_ranks"; do
    log=$build/$(basename "$test").log
    if "$test" >"$log" 2>&1; then
        echo "passed  $(basename "$test")"
    else
        failed=1
        echo "FAILED  $(basename "$test")"
        grep -vE '^\[ +(RUN|OK)' "$log" | tail -40
    fi
done
"$build/oasis" bench --device cuda
exit $failed
