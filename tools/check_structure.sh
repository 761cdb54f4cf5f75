#!/bin/bash
# Checks the rules of CONTRIBUTING.md that a compiler does not: who includes whom, sizes of files and functions, and in
# the built libraries what is exported, what is imported, and that nothing global can be written to.
#   tools/check_structure.sh [BUILD]     BUILD: folder with liboasis.so, default build; "-" = sources only
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
wrong=0

complain() {
    echo "check_structure: $*"
    wrong=$((wrong + 1))
}

# ---- includes ----------------------------------------------------------------------------------------------------------
# folder of src: the folders that it may include from, besides itself
declare -A may_include=(
    [base]="" [tensor]="base cuda" [cpu]="base tensor cuda" [ops]="base tensor cpu cuda" [net]="base tensor" [format]="base tensor"
    [image]="base" [plan]="base" [video]="base" [metrics]="base image tensor cpu net format" [degrade]="base image cuda" [dataset]="base image" [cuda]="base tensor" [mpi]=""
    [train]="base tensor cpu cuda ops net format image plan metrics degrade"
)

# Prints "LINE FOLDER" for each #include "FOLDER/..." of a file.
included_folders() {
    awk 'match($0, /^#[ ]*include "[a-z0-9_]+\//) { split($0, part, "\""); split(part[2], path, "/"); print NR, path[1] }' "$1"
}

for folder in src/*/; do
    name=$(basename "$folder")
    [ -n "${may_include[$name]+known}" ] || { complain "src/$name: not in the include order of tools/check_structure.sh"; continue; }
    while read -r file; do
        while read -r line target; do
            case " $name ${may_include[$name]} " in
            *" $target "*) ;;
            *) complain "$file:$line: src/$name may not include \"$target/\" (allowed: ${may_include[$name]:-nothing})" ;;
            esac
        done < <(included_folders "$file")
    done < <(find "$folder" -name '*.[ch]' | sort)
done

# The command line proves that the public headers suffice.
while IFS=: read -r file line text; do
    header=${text#*\"}
    [ -f "cli/${header%%\"*}" ] || complain "$file:$line: cli/ may include public headers and its own only, not $text"
done < <(grep -nE '^#[ ]*include "' cli/*.[ch] || true)

# Networks are descriptions: no branches of the preprocessor but include guards.
while IFS=: read -r file line text; do
    complain "$file:$line: no $text in src/net"
done < <(grep -nE '^#[ ]*(if|elif|ifdef)( |$)' src/net/*.[ch] || true)

# ---- sizes -------------------------------------------------------------------------------------------------------------
while read -r file; do
    case $file in
    src/cpu/* | src/cuda/* | src/ops/*) limit=120 ;;
    *) limit=80 ;;
    esac
    lines=$(wc -l <"$file")
    [ "$lines" -le 800 ] || complain "$file: $lines lines, at most 800"
    while read -r line length; do
        complain "$file:$line: function of $length lines, at most $limit"
    done < <(awk -v limit="$limit" '$0 == "{" { start = NR } $0 == "}" && start { if (NR - start - 1 > limit) print start, NR - start - 1; start = 0 }' "$file")
done < <(find src cli include tools bench -name '*.[ch]' | sort)

# ---- the libraries -----------------------------------------------------------------------------------------------------
# Names with two underscores at the front are the sanitizers' and the linker's.
check_library() {
    local library=$1 forbidden=$2
    while read -r symbol; do
        complain "$(basename "$library"): exports $symbol, which is not oasis_*"
    done < <(nm -D --defined-only "$library" | awk '{ sub(/@.*/, "", $3); print $3 }' | grep -vE '^(oasis_|__|_init$|_fini$|_edata$|_end$)' || true)
    while read -r symbol; do
        complain "$(basename "$library"): imports $symbol: the library never exits, aborts or prints"
    done < <(nm -D --undefined-only "$library" | awk '{ sub(/@.*/, "", $2); print $2 }' | grep -xE "$forbidden" || true)
    # Allowed: the table that oasis_job_options() joins from two under pthread_once, and the latter's flag.  Sanitizers
    # keep tables of their own in .data.
    if ! nm -D --undefined-only "$library" | grep -qE '__(asan|tsan)_'; then
        while read -r symbol; do
            complain "$(basename "$library"): global \"$symbol\" can be written to"
        done < <(objdump -t "$library" | awk 'NF > 3 && $(NF-2) ~ /^\.(data|bss)$/ && / O / { print $NF }' |
            grep -vxE '__.*|completed\.[0-9]+|job_rows|once\.[0-9]+' || true)
    fi
}

printing='printf|vprintf|puts|putchar|perror|stdout|stderr|__printf_chk|__vprintf_chk|exit|_exit|_Exit|quick_exit|abort|__assert_fail'
if [ "$build" != - ]; then
    for library in "$build/liboasis.so" "$build/liboasis-media.so" "$build/liboasis-mpi.so"; do
        [ -e "$library" ] && check_library "$library" "$printing"
    done
fi

[ "$wrong" = 0 ] && echo "check_structure: nothing to complain about"
exit $((wrong > 0))
