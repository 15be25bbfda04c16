#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Usage: embed.sh FILE...
#
# Prints C that has the contents of all FILEs in ui_files[], as src/ui/files.h declares it. The entity tag of each is
# made of its content, so that browsers ask for another copy when it has changed and only then.

set -eu

[ $# -gt 0 ] || { echo "Usage: $0 FILE..." >&2; exit 2; }

echo '/* Made by src/ui/embed.sh. */'
echo '#include "ui/files.h"'
n=0
for file in "$@"; do
        n=$((n + 1))
        printf '\nstatic const unsigned char file_%d[] = {\n' "$n"
        od -v -An -tx1 "$file" | sed 's/ \(..\)/0x\1,/g'
        echo '};'
done
printf '\nconst StaticFile ui_files[] = {\n'
n=0
for file in "$@"; do
        n=$((n + 1))
        tag=$(sha256sum <"$file" | cut -c 1-24)
        printf '{ "%s", "\\"%s\\"", file_%d, sizeof(file_%d) },\n' "${file##*/}" "$tag" "$n" "$n"
done
echo '{ 0 },'
echo '};'
