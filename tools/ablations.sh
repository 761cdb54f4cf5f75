#!/bin/sh
# Short training runs that differ in one thing each, and a table of what came of them.
#
#   ablations.sh [-b BUILD] [-d STEPS] [-w STEPS] [-s STEPS] [-B BATCH] [-f FRAMES] [-z SIZE] [-t DATA-THREADS] [-r ROWS]
#                ENCODER DATA HOLDOUT OUT
#
# ENCODER is the checkpoint of an autoencoder (configs/autoencoder.json), DATA a folder to train on. From there go, with
# all heads global,
#   diffusion  -d STEPS (300) of flow matching
#   dense      -w STEPS (100) of one-step from those weights, degradations constant over time
# `oasis profile` measures the heads of `dense` on HOLDOUT/profile/*, and the ROWS (all) take -s STEPS (250) each, of BATCH
# (6) clips of FRAMES (17) x SIZE (256x256), with the same seed and clips:
#   global     all heads global
#   profiled   heads dealt out by the profile, a quarter global, a quarter own frame, half windows
#   random     as many of each kind in every layer, but drawn
#   again      as profiled, with another seed: what differs by less than this shows nothing
#   consistent as profiled, but degradations stay constant over time; the others are progressive
#   scratch    as profiled, without the diffusion stage: -w and -s STEPS from new weights
# HOLDOUT has data/ and low/ as tools/evaluate.sh makes them (its DATA, and its OUT/low; data/ may be its OUT/truth).
#
# OUT/table.md has the table; models are OUT/ROW/model.safetensors. Rows that are done are not trained again.
set -eu
build=build diffusion=300 warm=100 steps=250 batch=6 frames=17 size=256x256 feeders=$(nproc)
rows="global profiled random again consistent scratch"
while getopts b:d:w:s:B:f:z:t:r: option; do
    case $option in
    b) build=$OPTARG ;; d) diffusion=$OPTARG ;; w) warm=$OPTARG ;; s) steps=$OPTARG ;; B) batch=$OPTARG ;;
    f) frames=$OPTARG ;; z) size=$OPTARG ;; t) feeders=$OPTARG ;; r) rows=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 4 ] || { sed -n 's/^#   ablations/usage: ablations/p' "$0" >&2; exit 2; }
encoder=$1 data=$2 holdout=$3 out=$4
mkdir -p "$out"
# That of the default model, which ENCODER must have, too.
architecture=$(grep -E '^ *"(dim|layers|heads|ffn-dim|latent-channels|in-dim|decoder-[a-z0-9]+)": [0-9]+,$' \
    "$(dirname "$0")/../configs/autoencoder.json")

# train NAME STEPS, then keys: what all have in common, and what this one has.
train() {
    name=$1 count=$2
    shift 2
    [ ! -s "$out/$name/done" ] || return 0
    began=$(date +%s)
    mkdir -p "$out/$name"
    cat >"$out/$name.json" <<END
{
    "output": "$out/$name",
    "encoder": "$encoder",
    "data": ["$data"],
    "steps": $count,
    "batch": $batch,
    "frames": $frames,
    "size": "$size",
$architecture
    "rate": 4e-4,
    "final-rate": 2e-5,
    "projection-rate": 3,
    "warmup": $((count / 10 + 1)),
    "latent": 0.1,
    "reuse": 8,
    "mix": 16,
    "cache": 4000,
    "data-threads": $feeders,
    "log-every": $((count / 10 + 1)),
    "show-every": 0
}
END
    "$build/oasis" train "$out/$name.json" -q "$@"
    date >"$out/$name/done"
    echo "$name: $count steps, $(($(date +%s) - began)) s" >&2
}

progressive="--consistent-steps $((steps * 2 / 5)) --ramp-steps $((steps / 5))"

# A row of one-step training from the dense weights.
row() { # NAME, then keys
    name=$1
    shift
    train "$name" "$steps" --init "$out/dense/checkpoint.safetensors" "$@"
}

# shellcheck disable=SC2086 # options are words
train_row() {
    case $1 in
    global) row global $progressive ;;
    profiled) row profiled $progressive --routing "$out/profiled.txt" ;;
    random) row random $progressive --routing "$out/random.txt" ;;
    again) row again $progressive --routing "$out/profiled.txt" --seed 2 ;;
    consistent) row consistent --consistent-steps "$steps" --routing "$out/profiled.txt" ;;
    scratch)
        train scratch $((warm + steps)) --consistent-steps $((warm + steps * 2 / 5)) --ramp-steps $((steps / 5)) \
            --routing "$out/profiled.txt"
        ;;
    *) echo "ablations: there is no row '$1'" >&2; exit 2 ;;
    esac
}

train diffusion "$diffusion" --stage diffusion --route g
train dense "$warm" --init "$out/diffusion/checkpoint.safetensors" --consistent-steps "$warm" --schedule constant
if [ ! -s "$out/profiled.txt" ]; then
    set -- "$holdout"/profile/*
    first=$1
    shift
    for clip in "$@"; do set -- "$@" -i "$clip"; shift; done
    "$build/oasis" profile "$out/dense/model.safetensors" "$first" "$@" --frames "$frames" --size "$size" \
        --routing "$out/profiled.txt" --plot "$out/profile.svg" >"$out/profile.txt"
fi
# The letters of every layer in another order, by a fixed sequence of numbers.
awk 'function below(n) { seed = seed * 16807 % 2147483647; return seed % n }
    BEGIN { seed = 1 }
    $1 == "mode" { print "mode fixed"; next }
    $1 == "clips" || $1 == "stat" { next }
    $1 == "route" {
        left = $3; drawn = ""
        while (length(left) > 0) {
            i = below(length(left)) + 1
            drawn = drawn substr(left, i, 1); left = substr(left, 1, i - 1) substr(left, i + 1)
        }
        $3 = drawn
    }
    { print }' "$out/profiled.txt" >"$out/random.txt"
for name in $rows; do train_row "$name"; done

mkdir -p "$out/eval/truth"
cp "$holdout"/data/clips/* "$out/eval/truth"
cp -r "$holdout/low" "$out/eval/"
set --
for name in $rows; do set -- "$@" "$name=$out/$name/model.safetensors"; done
# On the CPU, clips side by side.
CUDA_VISIBLE_DEVICES="" "$(dirname "$0")/evaluate.sh" -b "$build" -n "$frames" "$holdout/data" "$out/eval" "$@" \
    >"$out/figures.txt"

{
    echo "$steps steps of $batch clips of ${frames}x$size from $diffusion of diffusion and $warm dense ones."
    tail -1 "$out/profile.txt"
    awk -F' *[|] *' '
        /^(in)?consistent-clips/ { group = $1; next }
        $2 == "" && group { for (i = 2; i < NF; i++) column[$i] = i; next }
        group && NF > 5 && $2 !~ /^-/ {
            if (!($2 in seen)) { seen[$2] = 1; order[++n] = $2 }
            value[$2, group] = $column["PSNR RGB"] " | " $column["SSIM"] " | " $column["E_warp"] " | " $column["tOF"] \
                " | " $column["sharpness"] " | " $column["grid 4"]
        }
        END {
            head = "PSNR RGB | SSIM | E_warp | tOF | sharpness | grid 4"
            print "\n| row | " head " | inconsistent: " head " |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
            for (k = 1; k <= n; k++)
                print "| " order[k] " | " value[order[k], "consistent-clips"] " | " \
                    value[order[k], "inconsistent-clips"] " |"
        }' "$out/figures.txt"
} | tee "$out/table.md"
