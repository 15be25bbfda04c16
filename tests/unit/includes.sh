#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Usage: includes.sh SRC
#
# Quoted includes go down this line only: base <- core <- io <- service <- a program. The leader makes do with
# base and core. Programs know nothing of one another, and the service nothing of any of them.

set -eu

[ $# -eq 1 ] && [ -d "$1/core" ] || { echo "Usage: $0 SRC" >&2; exit 2; }
cd "$1"

failed=0
for directory in */; do
        layer=${directory%/}
        case $layer in
        base) allowed='base' ;;
        core | leader) allowed='base|core' ;;
        io) allowed='base|core|io' ;;
        service) allowed='base|core|io|service' ;;
        runner | queue | ctl) allowed='base|core|io|service' ;;
        *)
                echo "$layer: not a known layer" >&2
                failed=1
                continue
                ;;
        esac

        if grep -rnE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$layer" |
                grep -vE "\"($allowed|$layer)/[^/\"]+\"" >&2; then
                echo "$layer: includes what lies above or beside it" >&2
                failed=1
        fi
done

exit $failed
