# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Roots of Debian's releases, made from packages. Sourced by release (roots to test in) and package (roots to
# build packages in).

# The address of this machine's own Debian mirror, which has all of Debian's releases.
debian_mirror() {
    local found try
    for try in 1 2; do
        found=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
            head -n1)
        [[ -z $found ]] || break
        ((try == 2)) || apt-get update --quiet --quiet
    done
    [[ -n $found ]] || { echo "apt knows no mirror of Debian here." >&2 && return 1; }
    echo "$found"
}

# debian_update_keyring SUITE: Debian 12 knows the keys of Debian 13 since its eleventh update.
debian_update_keyring() {
    if ! compgen -G "/usr/share/keyrings/debian-archive-$1-stable.*" >/dev/null; then
        apt-get update --quiet --quiet
        apt-get install --quiet --quiet --yes --only-upgrade debian-archive-keyring >/dev/null
    fi
}

# debian_tree SUITE FOLDER ARG…: in a mount namespace of its own, for mmdebstrap mounts /proc, /sys and /dev
# into the tree, and if it is killed, nobody shall delete those with the tree.
debian_tree() {
    local suite=$1 tree=$2 mirror
    shift 2
    mirror=$(debian_mirror) || return 1
    debian_update_keyring "$suite"
    unshare --mount mmdebstrap --mode=root --variant=minbase --quiet \
        --aptopt='APT::Install-Recommends false' --aptopt='Acquire::Languages none' \
        --dpkgopt=force-unsafe-io "$@" \
        "$suite" "$tree" "deb $mirror $suite main" </dev/null
}

# in_tree TREE FOLDER SCRIPT ARG…: runs SCRIPT in a mount namespace of its own, where FOLDER is visible in the
# tree at its own path, and "inside COMMAND…" enters the tree. What is done there has native speed, and the
# mounts go with it. In the script, $tree is TREE, $project FOLDER, $folder the folder of TREE.
# shellcheck disable=SC2016 # for the inner shell
in_tree() {
    local script=$3
    unshare --mount bash -euc '
        tree=$1 project=$2 folder=${1%/*}
        shift 2
        inside() {
            env --ignore-environment PATH="$PATH" HOME=/root LANG=C.UTF-8 chroot "$tree" "$@"
        }
        mkdir -p "$tree$project"
        mount --bind "$project" "$tree$project"
        mount -t proc proc "$tree/proc"
        mount --rbind /dev "$tree/dev"
        cd /
        '"$script" in_tree "$1" "$2" "${@:4}"
}
