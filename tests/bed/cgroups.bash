# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The cgroup hierarchies of this machine, whatever their mix: v1, hybrid or unified.
# Sourced by boot (which makes and removes a bed's subtree) and init (which moves into it).

# One line per hierarchy: MOUNT-POINT TYPE OPTIONS
cgroup_hierarchies() {
    findmnt --raw --noheadings --types cgroup,cgroup2 --output TARGET,FSTYPE,FS-OPTIONS |
        grep '^/sys/fs/cgroup[/ ]'
}

# The mount options that name a v1 hierarchy: its controllers, or the name of one that has none.
cgroup_v1_identity() {
    local option identity=()
    for option in ${1//,/ }; do
        case $option in
        rw | ro | xattr | noprefix | clone_children | cpuset_v2_mode | favordynmods | release_agent=*) ;;
        *) identity+=("$option") ;;
        esac
    done
    [[ ${identity[0]} != name=* ]] || identity=(none "${identity[@]}")
    (IFS=, && echo "${identity[*]}")
}

# cgroup_create NAME: makes a cgroup of that name at the top of every hierarchy.
cgroup_create() {
    local mount_point type
    while read -r mount_point type _; do
        if [[ $type == cgroup2 ]]; then
            cgroup_v2_hand_down "$mount_point"
        fi
        mkdir "$mount_point/$1"
        # A v1 cpuset without CPUs and memory nodes takes no process.
        if [[ -e $mount_point/$1/cpuset.cpus && $type == cgroup ]]; then
            cat "$mount_point/cpuset.cpus" >"$mount_point/$1/cpuset.cpus"
            cat "$mount_point/cpuset.mems" >"$mount_point/$1/cpuset.mems"
        fi
    done < <(cgroup_hierarchies)
}

# Gives every controller that a v2 hierarchy has to the cgroups below its top.
cgroup_v2_hand_down() {
    local controller
    # Only the real top is no cgroup, has no type, and may do so with processes of its own.
    if [[ -e $1/cgroup.type && -n $(<"$1/cgroup.procs") ]]; then
        cgroup_v2_evacuate "$1"
    fi
    for controller in $(<"$1/cgroup.controllers"); do
        echo "+$controller" >"$1/cgroup.subtree_control"
    done
}

# In a container the top we see is an ordinary cgroup, which holds processes. They move one level down
# for good: nothing tells when the last of several beds has gone, and it makes no difference to them.
cgroup_v2_evacuate() {
    local pid
    mkdir -p "$1/init"
    for pid in $(<"$1/cgroup.procs"); do
        # It may have ended meanwhile.
        echo "$pid" 2>/dev/null >"$1/init/cgroup.procs" || true
    done
}

# cgroup_join NAME: moves this very process.
cgroup_join() {
    local mount_point
    while read -r mount_point _; do
        echo 0 >"$mount_point/$1/cgroup.procs"
    done < <(cgroup_hierarchies)
}

# cgroup_is_populated NAME: whether a process is in its subtree, in any hierarchy, or whoever made it may just be about
# to put one there.
cgroup_is_populated() {
    local mount_point
    while read -r mount_point _; do
        [[ -d $mount_point/$1 ]] || continue
        [[ -z $(find "$mount_point/$1" -maxdepth 0 -newermt '-60 seconds') ]] || return 0
        [[ -z $(find "$mount_point/$1" -name cgroup.procs -exec cat {} + 2>/dev/null | head -c1) ]] || return 0
    done < <(cgroup_hierarchies)
    return 1
}

# cgroup_remove NAME: takes the subtree away; the last of its processes may take a moment to go.
cgroup_remove() {
    local mount_point
    while read -r mount_point _; do
        for _ in {1..250}; do
            [[ -d $mount_point/$1 ]] || break
            find "$mount_point/$1" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.02
        done
        [[ ! -d $mount_point/$1 ]] || { echo "Still in use: $mount_point/$1" >&2 && return 1; }
    done < <(cgroup_hierarchies)
}
