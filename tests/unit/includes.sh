#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Usage: includes.sh SRC
#
# Quoted includes go down this line only: base <- core <- io <- service <- a program. The service knows the files of
# the page (ui), which are data. The leader makes do with base and core, and so does the delivery of tasks, which only the queue knows; the look into the user database with a
# file of io. Programs know nothing of one another, and the service nothing of any of them. The rooms of the
# core are a line as well: each includes itself and the rooms before it.
#
# Within a folder there are no circles: a header and its sources, which are those of its name and those that include
# its "-internal" one, include nothing that includes them.

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
        ui) check_folder ui 'core/http' ;;
        service) check_folder service "base|$core|io|ui|service" ;;
        queue) check_folder queue "base|$core|delivery|io|service|queue" ;;
        runner | ctl | broker) check_folder "$layer" "base|$core|io|service|$layer" ;;
        *)
                echo "$layer: not a known layer" >&2
                failed=1
                ;;
        esac
done

allowed='base'
rooms='text wire json store http task scheduling sharing cluster config upgrade'
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

# What includes what in FOLDER, as tsort reads it.
edges_in() {
        awk -v folder="$1" '
                function base(path) { sub(".*/", "", path); sub("[.][ch]$", "", path); return path }
                function flush_edges(    i) {
                        sub("-internal$", "", module)
                        for (i = 0; i < n; i++)
                                if (included[i] != module)
                                        print module, included[i]
                        n = 0
                }
                FNR == 1 { flush_edges(); module = base(FILENAME) }
                /^#include "/ && index($2, "\"" folder "/") == 1 {
                        name = substr($2, 2, length($2) - 2)
                        is_internal = name ~ "-internal[.]h$"
                        name = base(name)
                        sub("-internal$", "", name)
                        if (is_internal)
                                module = name
                        included[n++] = name
                }
                END { flush_edges() }
        ' "$1"/*.[ch]
}

# Those that still have one: a request that is refused is JSON, and JSON is refused; tasks and their runner.
circular=' core/json io runner '
for folder in */ core/*/; do
        folder=${folder%/}
        [ "$folder" != core ] || continue
        circles=$(edges_in "$folder" | sort -u | tsort 2>&1 >/dev/null | sed 's/^tsort: //')
        case "$circular" in
        *" $folder "*)
                if [ -z "$circles" ]; then
                        echo "$folder: has no circle any more: take it off the list" >&2
                        failed=1
                fi
                ;;
        *)
                if [ -n "$circles" ]; then
                        printf '%s: files include one another in a circle:\n%s\n' "$folder" "$circles" >&2
                        failed=1
                fi
                ;;
        esac
done

exit $failed
