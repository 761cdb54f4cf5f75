#!/bin/sh
# Upscales the sample clip x4 with the default model and puts a frame of it beside the input enlarged bicubically.
#   demo.sh BUILD
set -eu
cd "$(dirname "$0")/.."
build=$1 at=2.6
mkdir -p demo
"$build/oasis" upscale -y samples/sample.mp4 demo/sample-x4.mp4
"$build/oasis" upscale -y -q --strength 0 --start $at --frames 1 samples/sample.mp4 demo/bicubic.png
"$build/side_by_side" demo/bicubic.png demo/sample-x4.mp4 $at demo/side-by-side.png
rm demo/bicubic.png
echo "the clip, four times as large: $PWD/demo/sample-x4.mp4"
echo "bicubic | oasis:               $PWD/demo/side-by-side.png"
