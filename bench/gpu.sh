#!/bin/bash
# On a machine with an NVIDIA GPU, CUDA, cuBLAS and cuDNN: builds for it, checks on it, measures, and prints one table.
# At most ten minutes in all; what is not done by then is left out, and said so.
#   bench/gpu.sh [--prebuilt DIR] [--only PARTS] [BUILD]
#     BUILD           folder to build in, default build-cuda
#     --prebuilt DIR  build nothing: DIR has the program, its libraries and the test programs
#     --only PARTS    of tests, compare, nano, large, train, pytorch (needs a python3 with PyTorch), with commas between
# SECONDS_ALLOWED (570) may be set for less or more time. Logs stay in BUILD/gpu; models of 2.6 GB each go to TMPDIR for the while.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
build=build-cuda prebuilt='' parts=tests,compare,nano,large,train,pytorch
while [ $# -gt 0 ]; do
    case $1 in
    --prebuilt) prebuilt=$2 && shift ;;
    --only) parts=$2 && shift ;;
    -*) sed -n '2,8s/^# *//p' "$0" && exit 2 ;;
    *) build=$1 ;;
    esac
    shift
done
start=$(date +%s)
allowed=${SECONDS_ALLOWED:-570}
logs=$build/gpu
mkdir -p "$logs"
work=$(mktemp -d "${TMPDIR:-/tmp}/oasis-gpu.XXXXXX")
converting=()
trap 'kill "${converting[@]}" 2>/dev/null; rm -rf "$work"' EXIT
failed=0

left() { echo $((allowed - $(date +%s) + start)); }
wanted() { [[ ,$parts, == *,$1,* ]]; }
say() { printf '\n== %s (%d s left)\n' "$1" "$(left)"; }

# Runs a command within MOST seconds and the time that is left, into LOG: LOG MOST COMMAND...
timed() {
    local log=$logs/$1 most=$2 rest
    shift 2
    rest=$(left)
    [ "$rest" -lt "$most" ] && most=$rest
    [ "$most" -lt 5 ] && echo "left out for want of time: $*" | tee "$log" && return 1
    timeout -k 5 "$most" "$@" >"$log" 2>&1
    local code=$?
    [ $code = 124 ] && echo "took more than $most s: $*" >>"$log"
    return $code
}

# Field 3 of the last line of LOG that begins with NAME and has DETAIL in it; or the rate behind it: LOG NAME [DETAIL] [rate]
figure() {
    awk -v name="$2" -v detail="${3:-}" -v rate="${4:-}" '$1 == name && index($0, detail) {
        found = $3
        if (rate) for (i = 4; i < NF; i++) if ($(i + 1) == "GFLOP/s") found = $i
    } END { print found }' "$logs/$1" 2>/dev/null
}

# An expression of awk, or "-" where one of its values is missing: FORMAT EXPRESSION VALUE...
compute() {
    local format=$1 expression=$2 v
    shift 2
    for v in "$@"; do [ -n "$v" ] || { echo - && return; }; done
    awk -v a="${1:-}" -v b="${2:-}" -v c="${3:-}" -v d="${4:-}" "BEGIN { printf \"$format\", $expression }"
}

table=()
row() { table+=("| $1 | $2 | $3 |"); }

# ---- the program -----------------------------------------------------------------------------------------------------
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
if [ -n "$prebuilt" ]; then
    bin=$prebuilt tests=$prebuilt
    export LD_LIBRARY_PATH=$PWD/$prebuilt:${LD_LIBRARY_PATH:-}
    case $prebuilt in /*) export LD_LIBRARY_PATH=$prebuilt:${LD_LIBRARY_PATH#*:} ;; esac
else
    bin=$build tests=$build/tests
    say "building"
    { cmake -S . -B "$build" -G Ninja -DOASIS_CUDA=ON && ninja -C "$build"; } \
        >"$logs/build.log" 2>&1 || { tail -40 "$logs/build.log" && exit 1; }
fi
oasis=$bin/oasis
export OASIS_TEST_DATA=$PWD/tests/data OASIS_SOURCE=$PWD OASIS_PROGRAM=$oasis
"$oasis" version | grep -E '^(liboasis|oneDNN|FFmpeg|CUDA|GPU)'
nvidia-smi --query-gpu=name,memory.total,clocks.max.sm,driver_version --format=csv,noheader

# Models of the paper's size are made meanwhile, one by one of a processor each.
if wanted large; then
    for heads in 12,0,0 4,4,4 1,3,8; do
        "$oasis" convert -q --random wan2.1-1.3b --seed 1 --heads $heads "$work/$heads.safetensors" \
            >"$logs/convert-$heads.log" 2>&1 &
        converting+=($!)
    done
fi

# ---- tests -----------------------------------------------------------------------------------------------------------
if wanted tests; then
    say "tests"
    passed=0 all=0
    for test in "$tests"/test_cuda_* "$tests/test_train_gpu" "$tests/test_train_ranks"; do
        [ -x "$test" ] || continue
        name=$(basename "$test") all=$((all + 1))
        if timed "$name.log" 150 "$test"; then
            passed=$((passed + 1))
            echo "passed  $name"
        else
            failed=1
            echo "FAILED  $name"
            grep -vE '^\[ +(RUN|OK)' "$logs/$name.log" | tail -40
        fi
    done
    row "test programs on the GPU passed" "$passed of $all" "all"
fi

# ---- the same pictures as on the CPU -----------------------------------------------------------------------------------
if wanted compare; then
    say "the GPU's frames against the CPU's"
    for device in cpu cuda; do
        timed "upscale-$device.log" 90 "$oasis" upscale -y -q --device $device --model-dir models --frames 33 \
            samples/sample.mp4 "$work/$device-%04d.png" || { failed=1 && tail -3 "$logs/upscale-$device.log"; }
    done
    timed compare.log 60 "$oasis" eval -q --json -m psnr_rgb "$work/cuda-%04d.png" "$work/cpu-%04d.png" ||
        { failed=1 && tail -3 "$logs/compare.log"; }
    psnr=$(sed -n 's/.*"mean": *\([0-9.]*\).*/\1/p' "$logs/compare.log" | head -1)
    row "PSNR between the GPU's frames and the CPU's, both bf16" "${psnr:--} dB" "45"
    rm -f "$work"/*.png
fi

bench() {
    timed "$1" "$2" "$oasis" bench --device cuda --model-dir models "${@:3}"
    local code=$?
    cat "$logs/$1"
    [ $code = 0 ] || failed=1
}

# ---- the default model, and what the chip can do -----------------------------------------------------------------------
if wanted nano; then
    say "kernels and the default model"
    bench peak.log 60 --stage peak
    bench dense.log 60 --stage dense
    bench attention.log 60 --stage attention
    bench model.log 90 --stage model
    bench upscale.log 60 --stage upscale
    row "matrix rate, bf16" "$(compute '%.0f TFLOP/s' 'a / 1000' "$(figure peak.log peak_gflops bf16)")" ""
    row "default model to 1280x720, raw to raw" \
        "$(compute '%.0f frames/s' a "$(figure model.log model_720p_fps)")" "400"
    row "the same, planned over measured time" \
        "$(compute %.2f a "$(figure model.log predicted_over_measured_s)")" "0.8 to 1.2"
    row "the same, from file to file" "$(compute '%.0f frames/s' a "$(figure upscale.log upscale_720p_fps)")" ""
fi

# ---- the paper's size ----------------------------------------------------------------------------------------------------
step() {
    local title=$1 log=$2 heads=$3 fps=$4 memory=$5
    shift 5
    bench "$log" 90 -m "$work/$heads.safetensors" --stage step "$@"
    row "$title" "$(compute '%.1f frames/s' a "$(figure "$log" step_fps)")" "$fps"
    row "memory of the GPU taken" "$(compute '%.1f GB' 'a / 1e9' "$(figure "$log" step_gpu_bytes)")" "$memory"
    row "planned over measured time" "$(compute %.2f a "$(figure "$log" step_predicted_over_measured_s)")" "0.8 to 1.2"
}

if wanted large; then
    say "the paper's size"
    wait "${converting[@]}"
    for heads in 12,0,0 4,4,4 1,3,8; do
        bench "transformer-$heads.log" 90 -m "$work/$heads.safetensors" --stage transformer
    done
    row "1.3B, 33 frames of 1280x720, 4/4/4: linear layers over the matrix rate" \
        "$(compute %.2f a "$(figure transformer-4,4,4.log transformer_dense_fraction)")" "0.75"
    # The share of the time over the share of the FLOPs, which are seconds by rate.
    row "time with 4/4/4 over what its FLOPs predict from all global" \
        "$(compute %.2f 'a / b / (a * c / (b * d))' "$(figure transformer-4,4,4.log transformer_s)" \
            "$(figure transformer-12,0,0.log transformer_s)" "$(figure transformer-4,4,4.log transformer_s '' rate)" \
            "$(figure transformer-12,0,0.log transformer_s '' rate)")" "1.15"
    row "a window head, times faster than the same head global" \
        "$(compute %.0f a "$(figure transformer-4,4,4.log heads_window_speedup)")" "25"
    for heads in 12,0,0 4,4,4 1,3,8; do
        row "transformer, heads $heads" \
            "$(compute '%.0f ms' 'a * 1000' "$(figure "transformer-$heads.log" transformer_s)")" ""
    done
    step "1.3B, heads 1,3,8, conditional tiny decoder" step-few.log 1,3,8 100 12 --decoder tests/data/bootstrap-nano.safetensors
    step "1.3B, heads 4,4,4, conditional tiny decoder" step-tiny.log 4,4,4 "" 12 --decoder tests/data/bootstrap-nano.safetensors
    step "1.3B, heads 4,4,4, Wan VAE decoder" step-vae.log 4,4,4 20 20
    step "1.3B, heads 1,3,8, Wan VAE decoder" step-few-vae.log 1,3,8 20 20
fi
rm -f "$work"/*.safetensors

# ---- training ------------------------------------------------------------------------------------------------------------
if wanted train; then
    say "training the default model"
    bench train.log 110 --train
    row "training the default model, clips there" \
        "$(compute '%.0f clips/s' a "$(figure train.log train_clips_per_s)")" ""
    row "the same, over the matrix rate" "$(compute %.3f a "$(figure train.log train_fraction)")" ""
    row "a pass as one launch, times a launch for every op" "$(compute %.2f a "$(figure train.log train_as_one_over_apart)")" ""
fi

# ---- PyTorch ---------------------------------------------------------------------------------------------------------------
if wanted pytorch; then
    say "PyTorch"
    timed torch.log 300 python3 bench/pytorch.py --seconds "$(left)" || failed=1
    cat "$logs/torch.log"
    ours=$(figure step-tiny.log step_fps) vae=$(figure step-vae.log step_fps)
    theirs=$(figure torch.log paper_tiny_fps) theirs_vae=$(figure torch.log paper_vae_fps) seed=$(figure torch.log seedvr2_fps)
    row "PyTorch: heads 4,4,4, conditional tiny decoder" "$(compute '%.1f frames/s' a "$theirs")" ""
    row "ours over that" "$(compute %.2f 'a / b' "$ours" "$theirs")" "1.3"
    few=$(figure step-few.log step_fps) theirs_few=$(figure torch.log paper_few_tiny_fps)
    row "PyTorch: heads 1,3,8, conditional tiny decoder" "$(compute '%.1f frames/s' a "$theirs_few")" ""
    row "ours over that" "$(compute %.2f 'a / b' "$few" "$theirs_few")" "1.3"
    plain=$(figure torch.log plain_tiny_fps) plain_few=$(figure torch.log plain_few_tiny_fps)
    row "PyTorch without torch.compile: heads 4,4,4; 1,3,8, conditional tiny decoder" \
        "$(compute '%.1f; %.1f frames/s' 'a, b' "$plain" "$plain_few")" ""
    row "ours over that" "$(compute '%.2f; %.2f' 'a / b, c / d' "$ours" "$plain" "$few" "$plain_few")" "1.3"
    row "PyTorch: heads 4,4,4, Wan VAE decoder" "$(compute '%.2f frames/s' a "$theirs_vae")" ""
    row "ours over that" "$(compute %.2f 'a / b' "$vae" "$theirs_vae")" "1.3"
    plain_vae=$(figure torch.log plain_vae_fps)
    row "PyTorch without torch.compile: the same" "$(compute '%.2f frames/s' a "$plain_vae")" ""
    row "ours over that" "$(compute %.2f 'a / b' "$vae" "$plain_vae")" "1.3"
    row "PyTorch: a network of SeedVR2-3B's shape" "$(compute '%.2f frames/s' a "$seed")" ""
    row "ours (4,4,4, tiny decoder) over that" "$(compute %.1f 'a / b' "$ours" "$seed")" "6.2"
fi

printf '\n| figure | reached | goal |\n|---|---|---|\n'
printf '%s\n' "${table[@]}" | tee "$logs/table.md"
echo
echo "$(($(date +%s) - start)) s in all"
exit $failed
