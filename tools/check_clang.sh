#!/bin/sh
# Compiles every source with clang's warnings too, without output; says nothing where clang is missing.
#   check_clang.sh BUILD     (for its compile_commands.json)
set -eu
command -v clang >/dev/null || { echo "check_clang: no clang here"; exit 0; }
sed -n 's/^ *"command": "[^ ]* \(.*\) -o [^ ]* -c \(.*\)",\{0,1\}$/\1 \2/p' "$1/compile_commands.json" |
    sed 's/\\"/"/g' | grep -v -- '-fsanitize' | sort -u | while read -r arguments; do
    echo "clang -fsyntax-only -Werror -Wno-unknown-warning-option $arguments"
done | xargs -P "$(nproc)" -d '\n' -n 1 sh -c
echo "check_clang: done"
