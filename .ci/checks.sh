#!/usr/bin/env bash
# The house's own rules that neither rustfmt nor clippy knows. Prints every offender; exits 1 if there is one.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly LONGEST=700
failed=0

sources() {
    find crates tests bench -name '*.rs' -not -path '*/target/*' 2>/dev/null | sort
}

fail() {
    printf '%s\n' "$1" >&2
    failed=1
}

# A file that has grown beyond this holds more than one concern.
while IFS= read -r file; do
    lines=$(wc -l < "$file")
    if [ "$lines" -gt "$LONGEST" ]; then
        fail "$file: $lines lines; no file has more than $LONGEST"
    fi
done < <(sources)

# Unsafe code is where it is expected, and nowhere else. `unsafe_code`, the lint, is another word; what a
# comment says about unsafe code is no code.
while IFS= read -r file; do
    case "$file" in
        crates/kernels/src/* | crates/engine/src/checkpoint/mmap.rs) continue ;;
    esac
    found=$(grep -nw unsafe "$file" | grep -vE '^[0-9]+:[[:space:]]*//' || true)
    if [ -n "$found" ]; then
        fail "$file: unsafe code outside of the kernels and the memory map:
$found"
    fi
done < <(sources)

# Every unsafe block and impl says why it is sound, at most five lines before.
while IFS= read -r file; do
    found=$(awk -v file="$file" '
        /SAFETY:/ { said = NR; any = 1 }
        /^[[:space:]]*\/\// { next }
        /(^|[^A-Za-z0-9_])unsafe([[:space:]]+(\{|impl([^A-Za-z0-9_]|$))|[[:space:]]*$)/ {
            if (!any || NR - said > 5) print file ":" NR ": no SAFETY: comment within the five lines before: " $0
        }
    ' "$file")
    if [ -n "$found" ]; then
        fail "$found"
    fi
done < <(sources)

if [ "$failed" -eq 0 ]; then
    printf 'house rules: ok (%s files)\n' "$(sources | wc -l)"
fi
exit "$failed"
