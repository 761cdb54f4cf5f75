#!/bin/sh
# Runs every libFuzzer program for a while; new inputs go to BUILD/corpus, findings end the run.
#   fuzz.sh BUILD [SECONDS EACH]
set -eu
cd "$(dirname "$0")/.."
build=$1 seconds=${2:-60}
for program in "$build"/tests/fuzz_*; do
    [ -x "$program" ] || continue
    name=$(basename "$program" | sed 's/^fuzz_//')
    mkdir -p "$build/corpus/$name"
    echo "fuzz: $name, $seconds s"
    "$program" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$build/" -verbosity=0 \
        "$build/corpus/$name" "tests/fuzz/corpus/$name"
done
