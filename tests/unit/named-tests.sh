#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Usage: named-tests.sh PROJECT
#
# Some documents say which test shows each of their claims, as `test_file.py` or `test_file.py::test_name`: they exist.

set -eu

[ $# -eq 1 ] && [ -f "$1/docs/security.md" ] || { echo "Usage: $0 PROJECT" >&2; exit 2; }
cd "$1"

failed=0
names=
for document in docs/security.md docs/http.md; do
        found=$(grep -o '`test_[a-z_0-9]*\.py[^`]*`' "$document" | tr -d '`' | sort -u)
        [ -n "$found" ] || { echo "$document names no test at all" >&2; exit 1; }
        names="$names $found"
done
for name in $names; do
        file=tests/system/${name%%::*}
        function=${name##*::}
        if [ ! -f "$file" ]; then
                echo "$name: there is no $file" >&2
                failed=1
        elif [ "$function" != "$name" ] && ! grep -q "^def $function(" "$file"; then
                echo "$name: there is no such test" >&2
                failed=1
        fi
done
exit $failed
