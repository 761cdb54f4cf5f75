#!/bin/sh
# Makes samples/sample.mp4 anew from two photographs of Debian's package lomiri-wallpapers-16.04 (CC BY 4.0, see
# samples/README.md).  Only needed to change the clip, which is part of the repository.  Needs apt-get and a compiler.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get download -qq lomiri-wallpapers-16.04 && dpkg-deb -x lomiri-wallpapers-16.04_*.deb .)
# shellcheck disable=SC2046  # several words are meant
gcc -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra tools/make_sample.c -o "$folder/make_sample" \
    $(pkg-config --cflags --libs libavformat libavcodec libswscale libavutil) -lm
pictures=$folder/usr/share/backgrounds
"$folder/make_sample" "$pictures/aitzgorri_by_Aitzol_Berasategi.jpg" "$pictures/Wine_by_Jakkub_Mede.jpg" samples/sample.mp4
ls -l samples/sample.mp4
