#!/bin/sh
# The attribution list of a model card from the manifest of its training data.
#
#   attribution.sh models/training-data.tsv            prints the list in Markdown
#   attribution.sh models/training-data.tsv CARD.md    puts it between the card's two "attribution" marks
#
# The manifest has tab-separated columns: name, source, licence, author, sha256.
set -eu
list() {
    awk -F '\t' '
        NR == 1 { next }
        NF != 5 { printf "attribution.sh: line %d of the manifest has %d columns, expected 5\n", NR, NF > "/dev/stderr"; exit 1 }
        {
            name = $1
            sub(/^.*\//, "", name)
            sub(/_[0-9]+\.mp4$/, "", name) # two stretches of one clip
            sub(/\.[a-z0-9]+$/, "", name)
            key = $2 "\t" $3
            if (index($1, "clips/") == 1) { # their source names the file too
                split($2, part, ": ")
                key = part[1] "\t" $3
                name = part[2]
            }
            who = $4 ~ /^authors of/ ? "" : " by " $4
            if (!((key, name) in seen)) {
                seen[key, name] = 1
                if (!(key in text)) order[++n] = key
                text[key] = text[key] (key in text && text[key] != "" ? "; " : "") name who
            }
        }
        END {
            for (i = 1; i <= n; i++) {
                split(order[i], k, "\t")
                printf "- **%s** (%s): %s\n", k[1], k[2], text[order[i]]
            }
        }' "$1"
}
if [ $# -eq 1 ]; then
    list "$1"
    exit
fi
[ $# -eq 2 ] || { sed -n 's/^#   attribution/usage: attribution/p' "$0" >&2; exit 2; }
if ! grep -q "attribution:begin" "$2" || ! grep -q "attribution:end" "$2"; then
    echo "attribution.sh: $2 has no attribution marks" >&2
    exit 1
fi
list "$1" >"$2.list"
awk -v list="$2.list" '
    /attribution:end/ { inside = 0 }
    !inside { print }
    /attribution:begin/ { inside = 1; while ((getline line < list) > 0) print line }' "$2" >"$2.new"
rm "$2.list"
mv "$2.new" "$2"
