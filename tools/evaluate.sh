#!/bin/sh
# Measures models on held-out material, and draws contact sheets.
#
#   evaluate.sh [-b BUILD] [-r REAL] [-s SQUEEZENET.param] [-c CROPS] [-n FRAMES] [-j THREADS] DATA OUT NAME=MODEL...
#
# DATA holds clips/ and photos/. Truths are FRAMES (17) frames of each: clips from their second second on, with their area
# halved; photos with a moving camera (tools/make_truth.c). Each is degraded x4 by `oasis degrade`, consistently over time
# and with --temporal-step 1, with seeds that follow from its name alone, and enlarged by every model and bicubically.
# REAL holds videos, and folders of pictures, without truth: they are enlarged and shown only.
# CROPS (models/evaluation-crops.txt): lines NAME FRAME X Y say which part of a clip the sheet shows.
#
# OUT/figures.md and figures.json have the figures, OUT/sheet-*.png the pictures, OUT/eval those of each clip. What is there
# already is not made again: remove OUT/up/*/NAME and OUT/eval/*/NAME to measure NAME afresh.
set -eu
build=build real="" squeezenet="" crops=/dev/null frames=17 threads=0
while getopts b:r:s:c:n:j: option; do
    case $option in
    b) build=$OPTARG ;; r) real=$OPTARG ;; s) squeezenet=$OPTARG ;; c) crops=$OPTARG ;; n) frames=$OPTARG ;;
    j) threads=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 3 ] || { sed -n 's/^#   evaluate/usage: evaluate/p' "$0" >&2; exit 2; }
data=$1 out=$2
shift 2
lossless="--codec libx264rgb --crf 0"

# make FILE COMMAND... runs the command, which writes the file, unless it is there.
make() {
    [ -s "$1" ] && return
    mkdir -p "$(dirname "$1")"
    shift
    "$@"
}

bare() { basename "$1" | sed 's/\.[^.]*$//'; }
seed_of() { printf %s "$1" | cksum | cut -d' ' -f1; }

enlarge() { # IN OUT NAME=MODEL [OPTIONS]
    from=$1 to=$2 by=${3%%=*} weights=${3#*=}
    shift 3
    [ "$by" != bicubic ] || set -- "$@" --strength 0
    # shellcheck disable=SC2086 # the options are words
    "$build/oasis" upscale -y -q --no-progress -m "$weights" --scale 4 -j "$threads" $lossless "$@" "$from" "$to"
}

measure() { # CLIP REF JSON
    "$build/oasis" eval --json --no-progress -j "$threads" ${squeezenet:+--squeezenet "$squeezenet"} "$1" "$2" >"$3.part"
    mv "$3.part" "$3"
}

mkdir -p "$out"
list=$out/list.txt
: >"$list"
first=${1#*=}
set -- "bicubic=$first" "$@"

for path in "$data"/clips/* "$data"/photos/*; do
    [ -f "$path" ] || continue
    name=$(bare "$path") kind=$(basename "$(dirname "$path")")
    truth=$out/truth/$name.mkv
    make "$truth" "$build/make_truth" "$path" "$truth" "$frames" 1
    for mode in consistent inconsistent; do
        step=0
        [ $mode = consistent ] || step=1
        low=$out/low/$mode/$name.mkv
        make "$low" "$build/oasis" degrade -q --no-progress -y -s 4 --seed "$(seed_of "$mode $name")" --temporal-step $step \
            --params "${low%.mkv}.json" -j "$threads" "$truth" "$low"
        for model in "$@"; do
            up=$out/up/$mode/${model%%=*}/$name.mkv json=$out/eval/$mode/${model%%=*}/$name.json
            make "$up" enlarge "$low" "$up" "$model"
            make "$json" measure "$up" "$truth" "$json"
            echo "$mode-$kind ${model%%=*} $name $json" >>"$list"
        done
    done
    json=$out/eval/truth/$name.json
    make "$json" sh -c "'$build/oasis' eval --json --no-progress -m sharpness,niqe_own '$truth' >'$json'"
    echo "consistent-$kind truth $name $json" >>"$list"
done
"$build/figures" "$out/figures.json" <"$list" | tee "$out/figures.md"

# One row of crops and one of slices through time of each clip.
rows() { # TITLE X Y FRAME, then cells on standard input
    cells=$(cat)
    printf 'size 256 256\nrow %s %s %s %s\n%s\n' "$4" "$2" "$3" "$1" "$cells"
    line=$(($3 + 128)) what="line $(($3 + 128))"
    [ "$2" -ge 0 ] || { line=0 what="a line"; }
    printf 'size 256 %s\nstrip %s %s %s\n%s\n' $((8 * frames)) "$2" "$line" "$what of frames 0 to $((frames - 1))" "$cells"
}

place_of() { # NAME: FRAME X Y
    awk -v half=$((frames / 2)) -v name="$1" '$1 == name { print $2, $3, $4; found = 1; exit } END { if (!found) print half, -1, 0 }' "$crops"
}

for mode in consistent inconsistent; do
    for kind in clips photos; do
        for path in "$data/$kind"/*; do
            [ -f "$path" ] || continue
            name=$(bare "$path")
            # shellcheck disable=SC2046 # three words
            set -- $(place_of "$name") "$@"
            frame=$1 x=$2 y=$3
            shift 3
            {
                echo "cell input $out/low/$mode/$name.mkv"
                for model in "$@"; do echo "cell ${model%%=*} $out/up/$mode/${model%%=*}/$name.mkv"; done
                echo "cell truth $out/truth/$name.mkv"
            } | rows "$name" "$x" "$y" "$frame"
        done | "$build/contact_sheet" "$out/sheet-$mode-$kind.png"
    done
done

[ -n "$real" ] || exit 0
for path in "$real"/* "$real"/*/*.mp4 "$real"/*/*.mkv; do
    [ -e "$path" ] || continue
    [ ! -d "$path" ] || [ -n "$(find "$path" -maxdepth 1 -name '*.png' -o -maxdepth 1 -name '*.jpg' | head -1)" ] || continue
    name=$(bare "$path")
    for model in "$@"; do
        up=$out/real/${model%%=*}/$name.mkv
        make "$up" enlarge "$path" "$up" "$model" --frames "$frames"
    done
    # shellcheck disable=SC2046 # three words
    set -- $(place_of "$name") "$@"
    frame=$1 x=$2 y=$3
    shift 3
    {
        echo "cell input $path"
        for model in "$@"; do echo "cell ${model%%=*} $out/real/${model%%=*}/$name.mkv"; done
    } | rows "$name" "$x" "$y" "$frame"
done >"$out/real.txt"
"$build/contact_sheet" "$out/sheet-real.png" <"$out/real.txt"
