#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Usage: includes.sh SRC
#
# Quoted includes go down this line only: base <- core <- io <- service <- a program. The leader makes do with
# base and core, and so does the delivery of tasks, which only the queue knows; the look into the user database with a
# file of io. Programs know nothing of one another, and the service nothing of any of them. The rooms of the
# core are a line as well: each includes itself and the rooms before it.

set -eu

[ $# -eq 1 ] && [ -d "$1/core" ] || { echo "Usage: $0 SRC" >&2; exit 2; }
cd "$1"

failed=0

# Fails when a source in FOLDER includes something else than a file right in one of ALLOWED, a pattern.
check_folder() {
        if grep -rnE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$1" |
                grep -vE "\"($2)/[^/\"]+\"" >&2; then
                echo "$1: includes what lies above or beside it" >&2
                failed=1
        fi
}

core='core/[a-z]+'
for folder in */; do
        layer=${folder%/}
        case $layer in
        base) check_folder base 'base' ;;
        core) ;;
        delivery) check_folder delivery "base|$core|delivery" ;;
        leader) check_folder leader "base|$core|leader" ;;
        io) check_folder io "base|$core|io" ;;
        account) check_folder account 'base|io' ;;
        service) check_folder service "base|$core|io|service" ;;
        queue) check_folder queue "base|$core|delivery|io|service|queue" ;;
        runner | ctl | broker) check_folder "$layer" "base|$core|io|service|$layer" ;;
        *)
                echo "$layer: not a known layer" >&2
                failed=1
                ;;
        esac
done

allowed='base'
rooms='text wire json store http task scheduling sharing config'
for room in $rooms; do
        allowed="$allowed|core/$room"
        check_folder "core/$room" "$allowed"
done
for folder in core/*/; do
        room=$(basename "$folder")
        case " $rooms " in
        *" $room "*) ;;
        *)
                echo "core/$room: not a known room" >&2
                failed=1
                ;;
        esac
done

exit $failed
