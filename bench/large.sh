#!/bin/sh
# The figures of doc/large.md in one go: Wan2.1-1.3B's size with random weights, to 1280x720.
#
#   bench/large.sh [BUILD] [CLIP]
#
#   BUILD   folder with the program, default build
#   CLIP    at least FRAMES frames, default samples/sample.mp4
#
# Takes about a quarter of an hour of two quiet cores and 5 GB of disk in TMPDIR.  To see that it works, or for another
# machine, these variables: LAYERS (30), FRAMES (17), SIZE (1280x720), BENCH (1; 0 leaves `oasis bench` out).
set -eu

build=${1:-build}
clip=${2:-samples/sample.mp4}
layers=${LAYERS:-30} frames=${FRAMES:-17} size=${SIZE:-1280x720}
oasis=$build/oasis
work=$(mktemp -d "${TMPDIR:-/tmp}/oasis-large.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM

# The number behind a key of a report; its last occurrence.
field() {
    sed -n 's/^ *"'"$2"'": *\([0-9.e+-]*\),*$/\1/p' "$1" | tail -n 1
}

seconds() {
    awk -v ms="$1" 'BEGIN { printf "%.1f", ms / 1000 }'
}

gib() {
    awk -v bytes="$1" 'BEGIN { printf "%.2f", bytes / 1073741824 }'
}

# One model: NAME HEADS DTYPE
convert() {
    "$oasis" convert -q --random wan2.1-1.3b --seed 1 --layers "$layers" --heads "$2" --dtype "$3" "$work/$1.safetensors" >/dev/null
}

# One row: LABEL MODEL [OPTIONS]
row() {
    label=$1 model=$work/$2.safetensors
    shift 2
    # The plan first, on the idle machine: its time is measured there.
    "$oasis" upscale --dry-run --json -m "$model" "$clip" --size "$size" --frames "$frames" "$@" >"$work/plan.json"
    /usr/bin/time -f '"maxrss_kib": %M' -o "$work/time.txt" "$oasis" upscale -y -q --json -m "$model" "$clip" \
        -o "$work/out.mkv" --size "$size" --frames "$frames" "$@" >"$work/run.json"
    rss=$(awk -v kib="$(field "$work/time.txt" maxrss_kib)" 'BEGIN { print kib * 1024 }')
    printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$label" "$(seconds "$(field "$work/run.json" transformer_ms)")" \
        "$(seconds "$(field "$work/run.json" decoder_ms)")" "$(seconds "$(field "$work/run.json" elapsed_ms)")" \
        "$(seconds "$(field "$work/plan.json" elapsed_ms)")" "$(gib "$rss")" \
        "$(gib "$(field "$work/plan.json" mem_peak_bytes)")"
}

"$oasis" version | head -n 3
echo "$layers layers, $frames frames to $size, $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg)"
echo
echo '| model and decoder | transformer, s | decoder, s | whole, s | planned, s | memory, GiB | planned, GiB |'
echo '|---|---|---|---|---|---|---|'
convert global 12,0,0 bf16
row 'all heads global, conditional tiny decoder' global --decoder "$(dirname "$0")/../../tests/data/bootstrap-nano.safetensors"
rm "$work/global.safetensors"
convert routed6 2,4,6 bf16
row '2/4/6 heads, conditional tiny decoder' routed6 --decoder "$(dirname "$0")/../../tests/data/bootstrap-nano.safetensors"
rm "$work/routed6.safetensors"
convert routed 4,4,4 bf16
row '4/4/4 heads, conditional tiny decoder' routed --decoder "$(dirname "$0")/../../tests/data/bootstrap-nano.safetensors"
row '4/4/4 heads, Wan decoder' routed
convert routed8 4,4,4 q8_0
row '4/4/4 heads, q8_0, conditional tiny decoder' routed8 --decoder "$(dirname "$0")/../../tests/data/bootstrap-nano.safetensors"
rm "$work/routed8.safetensors"
echo
[ "${BENCH:-1}" = 1 ] || exit 0
"$oasis" bench -m "$work/routed.safetensors" --stage peak
"$oasis" bench -m "$work/routed.safetensors" --stage block
"$oasis" bench -m "$work/routed.safetensors" --stage decoder
