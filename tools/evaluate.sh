#!/bin/sh
# Measures models on held-out material, and draws contact sheets.
#
#   evaluate.sh [-b BUILD] [-r REAL] [-s SQUEEZENET.param] [-q NIQE.npz] [-c CROPS] [-n FRAMES] [-f FRAMES] [-j JOBS]
#               DATA OUT NAME=MODEL...
#
# DATA holds clips/ and photos/. Truths are FRAMES (17) frames of each: clips from their second second on, with their area
# halved; photos with a moving camera (tools/make_truth.c). Each is degraded x4 by `oasis degrade`, consistently over time
# and with --temporal-step 1, with seeds that follow from its name alone, and enlarged by every model and bicubically.
# SqueezeNet's features are of the first -f FRAMES (5), since they take longer than all else.
# REAL holds videos, and folders of pictures, without truth: they are enlarged and shown only.
# CROPS (models/evaluation-crops.txt): lines NAME FRAME X Y say which parts of a clip the sheets show.
#
# OUT/figures.md and figures.json have the figures, OUT/sheet-*.png the pictures, OUT/eval those of each clip. What is there
# already is not made again: remove OUT/up/*/NAME, OUT/eval/*/NAME and OUT/real/NAME to measure NAME afresh. JOBS clips
# (as many as there are processors) are worked on at a time; the figures do not depend on it.
set -eu
build=build real="" squeezenet="" niqe="" crops=/dev/null frames=17 seen=5 jobs=$(nproc) job=false
while getopts 1b:r:s:q:c:n:f:j: option; do
    case $option in
    b) build=$OPTARG ;; r) real=$OPTARG ;; s) squeezenet=$OPTARG ;; q) niqe=$OPTARG ;; c) crops=$OPTARG ;;
    n) frames=$OPTARG ;; f) seen=$OPTARG ;; j) jobs=$OPTARG ;;
    1) job=true ;; # one job, from the list that this script writes
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 3 ] || { sed -n 's/^#   evaluate/usage: evaluate/p' "$0" >&2; exit 2; }
alone=sharpness,grid_2,grid_4,grid_8,grid_16,niqe_own
[ -z "$niqe" ] || alone=${alone%_own}

# make FILE COMMAND... runs the command, which writes the file, unless it is there.
make() {
    [ ! -s "$1" ] || return 0
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
    "$build/oasis" upscale -y -q --no-progress -m "$weights" --scale 4 -j 1 --codec libx264rgb --crf 0 --preset ultrafast \
        "$@" "$from" "$to"
}

measure() { # JSON, then arguments of eval
    to=$1
    shift
    "$build/oasis" eval --json --no-progress -j 1 ${squeezenet:+--squeezenet "$squeezenet"} ${niqe:+--niqe "$niqe"} "$@" \
        >"$to.part"
    mv "$to.part" "$to"
}

# ---- a job: what is made of one file ---------------------------------------------------------------------------------

truth_job() { # PATH: the truth and its degraded versions
    name=$(bare "$1") truth=$out/truth/$(bare "$1").mkv
    make "$truth" "$build/make_truth" "$1" "$truth" "$frames" 1
    make "$out/eval/truth/$name.json" measure "$out/eval/truth/$name.json" -m "$alone" "$truth"
    for mode in consistent inconsistent; do
        step=0
        [ $mode = consistent ] || step=1
        low=$out/low/$mode/$name.mkv
        make "$low" "$build/oasis" degrade -q --no-progress -y -s 4 --seed "$(seed_of "$mode $name")" --temporal-step $step \
            --params "${low%.mkv}.json" -j 1 "$truth" "$low"
    done
}

clip_job() { # MODE NAME NAME=MODEL: enlarged and measured
    up=$out/up/$1/${3%%=*}/$2.mkv json=$out/eval/$1/${3%%=*}/$2
    make "$up" enlarge "$out/low/$1/$2.mkv" "$up" "$3"
    make "$json.json" measure "$json.json" -m "psnr_rgb,psnr_luma,ssim,ms_ssim,ewarp,tof,$alone" "$up" "$out/truth/$2.mkv"
    [ -z "$squeezenet" ] ||
        make "$json.features.json" measure "$json.features.json" -m squeezenet --frames "$seen" "$up" "$out/truth/$2.mkv"
}

real_job() { # PATH NAME=MODEL
    up=$out/real/${2%%=*}/$(bare "$1").mkv
    make "$up" enlarge "$1" "$up" "$2" --frames "$frames"
    make "${up%.mkv}.json" measure "${up%.mkv}.json" -m "$alone" "$up"
}

if $job; then
    out=$1 kind=$2
    shift 2
    case $kind in
    truth) truth_job "$@" ;; clip) clip_job "$@" ;; real) real_job "$@" ;;
    sheet) "$build/contact_sheet" "$out/sheet-$1.png" <"$out/sheets/$1.txt" ;;
    esac
    exit
fi

data=$1 out=$2
shift 2
first=${1#*=}
set -- "bicubic=$first" "$@"
mkdir -p "$out/sheets"
began=$(date +%s)

# Runs the jobs of standard input, whose words are separated by tabs.
work() { # WHAT
    tr '\t' '\n' | tr '\n' '\0' | xargs -0 -r -n "$2" -P "$jobs" "$0" -1 -b "$build" -s "$squeezenet" -q "$niqe" \
        -n "$frames" -f "$seen" "$out"
    echo "$1: $(($(date +%s) - began)) s" >&2
}

files() { find "$data/clips" "$data/photos" -maxdepth 1 -type f 2>/dev/null | sort; }

# Videos, and folders of pictures.
real_inputs() {
    [ -n "$real" ] || return 0
    find "$real" -maxdepth 2 \( -name '*.mp4' -o -name '*.mkv' \) | sort
    find "$real" -maxdepth 2 \( -name '*.png' -o -name '*.jpg' \) -exec dirname {} \; | sort -u
}

[ -n "$(files)" ] || { echo "evaluate: $data has neither clips/ nor photos/" >&2; exit 1; }

files | sed 's/^/truth	/' | work "truths" 2
for model in "$@"; do
    for mode in consistent inconsistent; do
        files | while read -r path; do printf 'clip\t%s\t%s\t%s\n' $mode "$(bare "$path")" "$model"; done
    done
done | work "held-out clips" 4
for model in "$@"; do real_inputs | while read -r path; do printf 'real\t%s\t%s\n' "$path" "$model"; done; done |
    work "real clips" 3

# ---- the table -------------------------------------------------------------------------------------------------------

for mode in consistent inconsistent; do
    files | while read -r path; do
        name=$(bare "$path") group=$mode-$(basename "$(dirname "$path")")
        for model in "$@"; do
            for json in "$out/eval/$mode/${model%%=*}/$name.json" "$out/eval/$mode/${model%%=*}/$name.features.json"; do
                [ ! -s "$json" ] || echo "$group ${model%%=*} $name $json"
            done
        done
        echo "$group truth $name $out/eval/truth/$name.json"
    done
done >"$out/list.txt"
real_inputs | while read -r path; do
    for model in "$@"; do echo "real ${model%%=*} $(bare "$path") $out/real/${model%%=*}/$(bare "$path").json"; done
done >>"$out/list.txt"
"$build/figures" "$out/figures.json" <"$out/list.txt" | tee "$out/figures.md"

# ---- sheets ----------------------------------------------------------------------------------------------------------

cells() { # INPUT TRUTH|- FOLDER NAME NAME=MODEL...
    input=$1 truth=$2 folder=$3 name=$4
    shift 4
    echo "cell input $input"
    for model in "$@"; do echo "cell ${model%%=*} $folder/${model%%=*}/$name.mkv"; done
    [ "$truth" = - ] || echo "cell truth $truth"
}

# A row of crops for each place of a clip, and one of slices through time.
rows() { # TITLE INPUT TRUTH|- FOLDER NAME NAME=MODEL...
    title=$1 name=$5
    shift
    awk -v half=$((frames / 2)) -v name="$name" '$1 == name { print $2, $3, $4; found = 1 }
        END { if (!found) print half, -1, 0 }' "$crops" | while read -r frame x y; do
        printf 'size 256 256\nrow %s %s %s %s\n' "$frame" "$x" "$y" "$title"
        cells "$@"
    done
    line=$((y_of_line + 0)) what="a line"
    [ "$line" -eq 0 ] || what="line $line"
    printf 'size 256 %s\nstrip %s %s %s of frames 0 to %s\n' $((8 * frames)) "$x_of_line" "$line" "$what" $((frames - 1))
    cells "$@"
}

# Where the slices of a clip lie: across the middle of its first place.
slice_of() { # NAME
    x_of_line=$(awk -v name="$1" '$1 == name { print $3; found = 1; exit } END { if (!found) print -1 }' "$crops")
    y_of_line=$(awk -v name="$1" '$1 == name { print $4 + 128; found = 1; exit } END { if (!found) print 0 }' "$crops")
}

for mode in consistent inconsistent; do
    for kind in clips photos; do
        for path in "$data/$kind"/*; do
            [ -f "$path" ] || continue
            name=$(bare "$path")
            slice_of "$name"
            rows "$name" "$out/low/$mode/$name.mkv" "$out/truth/$name.mkv" "$out/up/$mode" "$name" "$@"
        done >"$out/sheets/$mode-$kind.txt"
    done
done
real_inputs | while read -r path; do
    name=$(bare "$path")
    slice_of "$name"
    rows "$name" "$path" - "$out/real" "$name" "$@"
done >"$out/sheets/real.txt"
find "$out/sheets" -name '*.txt' -size +0 -exec basename {} .txt \; | sort | sed 's/^/sheet	/' | work "sheets" 2
