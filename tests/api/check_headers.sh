#!/bin/sh
# Each public header compiles alone, as C11 and as C++17 (skipped where there is no C++ compiler).
#   check_headers.sh INCLUDE_FOLDER CC
set -eu
include=$1 cc=$2
flags="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -fsyntax-only -I$include"
command -v g++ >/dev/null && cxx=g++ || cxx=""
n=0
for header in "$include"/oasis/*.h; do
    name=oasis/$(basename "$header")
    # shellcheck disable=SC2086  # several words are meant
    {
        echo "#include <$name>" | $cc -std=c11 $flags -Wstrict-prototypes -x c -
        [ -z "$cxx" ] || echo "#include <$name>" | $cxx -std=c++17 $flags -x c++ -
    }
    n=$((n + 1))
done
[ "$n" -gt 0 ]
echo "$n headers compile alone in C11${cxx:+ and C++17}"
[ -n "$cxx" ] || exit 77
