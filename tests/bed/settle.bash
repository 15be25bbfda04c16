# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What a bed's root gets before systemd starts, in namespaces (init) as in a virtual machine (vm-init).
# Sourced by both, with that root's path in $root.

# settle_units UNIT…: only what distributions start unasked remains: nothing the host's administrator
# enabled, no generator (fstab, init scripts, …), and none of the units given, which make no sense there.
settle_units() {
    local unit generator etc=$root/etc/systemd
    rm -rf "$etc" "$root/etc/fstab"
    mkdir -p "$etc/system" "$etc/system-generators" "$etc/journald.conf.d"
    for generator in "$root"/usr/lib/systemd/system-generators/* \
        "$root"/usr/local/lib/systemd/system-generators/*; do
        ln -sf /dev/null "$etc/system-generators/${generator##*/}"
    done
    for unit in "$@" getty.target systemd-{networkd,resolved,timesyncd}.service \
        systemd-ask-password-{console,wall}.path systemd-tmpfiles-clean.timer; do
        ln -s /dev/null "$etc/system/$unit"
    done
    # Tests kill the bus more often than the 20 times in 2 s after which systemd gives its socket up. Where that
    # has failed, systemd itself does not connect to the bus any more, even if the bus runs (seen in 252).
    mkdir -p "$etc/system/dbus.socket.d"
    printf '[Socket]\nTriggerLimitIntervalSec=0\n' >"$etc/system/dbus.socket.d/bed.conf"
    # Its rules empty /tmp at boot, below which the project may live.
    mkdir -p "$root/etc/tmpfiles.d"
    ln -sf /dev/null "$root/etc/tmpfiles.d/tmp.conf"
    # Newer than /usr: nothing is to be updated at boot.
    touch "$root/etc/.updated" "$root/var/.updated"
}

# With loopback addresses only, getaddrinfo() with AI_ADDRCONFIG finds nothing, not even 127.0.0.1:
# so lo gets one more of each family, from the ranges that are kept for documentation.
settle_network() {
    hostname daggyr-bed
    echo daggyr-bed >"$root/etc/hostname"
    printf '%s\n' "127.0.0.1 localhost" "::1 localhost" \
        "192.0.2.1 daggyr-bed.example daggyr-bed" >"$root/etc/hosts"
    rm -f "$root/etc/resolv.conf"
    : >"$root/etc/resolv.conf"
    ip link set lo up
    ip address add 192.0.2.1/32 dev lo
    ip address add 2001:db8::1/128 dev lo 2>/dev/null || true # no IPv6 in this kernel
}

settle_identity() {
    rm -f "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"
    echo da66da66da66da66da66da66da66da66 >"$root/etc/machine-id"
}

# As on a real host, where systemd-sysusers runs after an installation; systemd-tmpfiles runs at boot. By the
# root's own programs, which may be of another release.
settle_installation() {
    chroot "${root:-/}" systemd-sysusers
    chroot "${root:-/}" journalctl --update-catalog
}
