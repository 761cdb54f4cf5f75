#!/bin/bash
# Installs into an empty folder, as a package would, and builds the example from there: through pkg-config and through
# the CMake package.
#   check_install.sh SOURCE BUILD CC [SANITIZER]
set -euo pipefail
source=$1 build=$2 cc=$3 sanitizer=${4:-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() {
    echo "check_install: $*"
    exit 1
}

# DESTDIR and prefix; then the tree is moved, as package builders do.
DESTDIR=$folder/stage cmake --install "$build" --prefix /opt/oasis >"$folder/log" || { cat "$folder/log"; exit 1; }
mv "$folder/stage/opt/oasis" "$folder/root"
[ -z "$(find "$folder/stage" -type f)" ] || fail "files outside the prefix: $(find "$folder/stage" -type f)"
root=$folder/root
pc=$(dirname "$(find "$root" -name oasis.pc)")
model=$root/share/oasis/models/oasis-nano.safetensors
for file in "$model" include/oasis/oasis.h; do
    [ -f "$file" ] || [ -f "$root/$file" ] || fail "$file was not installed"
done

export PKG_CONFIG_PATH=$pc LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(dirname "$pc")
flags=${sanitizer:+-fsanitize=$sanitizer}
# shellcheck disable=SC2046,SC2086  # several words are meant
$cc -std=c11 $flags "$source/tests/api/example.c" $(pkg-config --cflags --libs oasis) -o "$folder/example"
"$folder/example" "$model" | tee "$folder/out"
[ "$(grep -c '^frame .: 48x32, mean 0\.' "$folder/out")" = 6 ] || fail "the example did not give six frames of 48x32"

mkdir "$folder/project"
cat >"$folder/project/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.18)
project(example C)
find_package(oasis 0.1 REQUIRED)
add_executable(example $source/tests/api/example.c)
target_link_libraries(example PRIVATE oasis::oasis)
if(NOT TARGET oasis::oasis-media AND EXISTS $root/bin/oasis)
  message(FATAL_ERROR "oasis::oasis-media is missing")
endif()
END
cmake -S "$folder/project" -B "$folder/project/build" -G Ninja -DCMAKE_PREFIX_PATH="$root" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_C_FLAGS="$flags" >"$folder/log" || { cat "$folder/log"; exit 1; }
ninja -C "$folder/project/build" >"$folder/log" || { cat "$folder/log"; exit 1; }
"$folder/project/build/example" "$model" | cmp - "$folder/out" || fail "the two examples differ"

if [ -x "$root/bin/oasis" ]; then
    unset LD_LIBRARY_PATH # the program finds its libraries by itself
    (cd / && env -u OASIS_MODEL_DIR "$root/bin/oasis" info oasis-nano) | grep -q "share/oasis/models" ||
        fail "the installed program does not find the installed model"
    for file in share/man/man1/oasis.1 share/bash-completion/completions/oasis share/zsh/site-functions/_oasis \
        share/fish/vendor_completions.d/oasis.fish; do
        [ -s "$root/$file" ] || fail "$file was not installed"
    done
    grep -q -- '--scale' "$root/share/bash-completion/completions/oasis" || fail "the completion knows no --scale"
    bash -n "$root/share/bash-completion/completions/oasis"
    ! command -v zsh >/dev/null || zsh -n "$root/share/zsh/site-functions/_oasis"
    ! command -v fish >/dev/null || fish -n "$root/share/fish/vendor_completions.d/oasis.fish"
    if command -v man >/dev/null; then
        [ -z "$(LC_ALL=C.UTF-8 man --warnings -l "$root/share/man/man1/oasis.1" 2>&1 >/dev/null)" ] || fail "man warns"
    fi
fi
echo "check_install: fine"
