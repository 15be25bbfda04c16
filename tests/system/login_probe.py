# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prints, as JSON, what the process that runs it is and may do. test_login.py compares a task's with a login's."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWPID = 0x20000, 0x10000000, 0x40000000, 0x20000000
PR_GET_SECUREBITS, PR_GET_TIMERSLACK, PR_GET_DUMPABLE, PR_GET_KEEPCAPS, PR_GET_CHILD_SUBREAPER = 27, 30, 3, 7, 37


def outcome(act: Callable[[], object]) -> object:
    """What it returns, or the name of its error, from a process of its own: some acts cannot be undone."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = act()
        except OSError as error:
            result = errno.errorcode.get(error.errno or 0, "?")
        os.write(writer, json.dumps(result).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(text) if text else f"killed by {signal.Signals(os.WTERMSIG(status)).name}"


def call(number: int, *arguments: object) -> str:
    """A system call by its number (x86-64 and, from 424 on, everywhere). Numbers go as whole registers: of the seventh
    argument, which is on the stack, an int would leave the upper half to chance."""
    whole = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return "works" if libc.syscall(number, *whole) >= 0 else raise_errno()


def raise_errno() -> str:
    raise OSError(ctypes.get_errno(), "")


def check(result: int) -> str:
    return "works" if result >= 0 else raise_errno()


def write_to(folder: str) -> str:
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(b"x")
    return "works"


def make_setuid() -> str:
    with tempfile.NamedTemporaryFile() as file:
        os.chmod(file.name, 0o6755)
        return oct(os.stat(file.name).st_mode)


def write_and_execute() -> str:
    area = libc.mmap(None, 4096, 7, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    return "works" if area != -1 else raise_errno()


def make_executable() -> str:
    libc.mmap.restype = ctypes.c_void_p
    area = libc.mmap(None, 4096, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    return check(libc.mprotect(ctypes.c_void_p(area), 4096, 5))


def open_socket(family: int, kind: int, protocol: int = 0) -> str:
    socket.socket(family, kind, protocol).close()
    return "works"


def bind(port: int) -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", port))
    return "works"


def schedule(policy: int, priority: int) -> str:
    os.sched_setscheduler(0, policy, os.sched_param(priority))
    return "works"


def personality(value: int) -> str:
    return check(libc.personality(value))


def mount_in_user_namespace() -> str:
    check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    return check(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))


def lower_limit() -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    return "works"


def lease_file() -> str:
    with tempfile.NamedTemporaryFile() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    return "works"


def status(*names: str) -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: fields[name].strip() for name in names}


X86_64 = {
    "add_key": lambda: call(248, b"user", b"probe", b"x", 1, ctypes.c_int(-2)),
    "keyctl": lambda: call(250, 0, ctypes.c_int(-2), 1),
    "bpf": lambda: call(321, 0, None, 0),
    "userfaultfd": lambda: call(323, 0),
    "perf_event_open": lambda: call(298, None, 0, -1, -1, 0),
    "clock_adjtime to read": lambda: call(305, 0, ctypes.create_string_buffer(512)),
    "clock_settime": lambda: call(227, 0, ctypes.create_string_buffer(16)),
    "init_module": lambda: call(175, None, 0, b""),
    "reboot": lambda: call(169, 0, 0, 0, None),
    "swapon": lambda: call(167, b"/nothing", 0),
    "iopl": lambda: call(172, 3),
    "syslog": lambda: call(103, 2, None, 0),
    "modify_ldt": lambda: call(154, 0, None, 0),
    "kcmp": lambda: call(312, os.getpid(), os.getpid(), 0, 0, 0),
    "process_vm_readv": lambda: call(310, os.getpid(), None, 0, None, 0, 0),
    "ioprio_set idle": lambda: call(251, 1, 0, 3 << 13),
    "ioprio_set realtime": lambda: call(251, 1, 0, 1 << 13),
    "uselib": lambda: call(134, b"/nothing"),
    "fanotify_init": lambda: call(300, 0, 0),
    "name_to_handle_at": lambda: call(303, -100, b"/", None, None, 0),
    "set_mempolicy": lambda: call(238, 0, None, 0),
}
ACTS: dict[str, Callable[[], object]] = {
    **{f"write to {folder}": lambda folder=folder: write_to(folder) for folder in ("/tmp", "/var/tmp", "/dev/shm", os.path.expanduser("~"), "/etc", "/run", "/var/cache/daggyr")},
    **{f"list {folder}": lambda folder=folder: sorted(os.listdir(folder)) for folder in ("/", "/home", "/root", "/dev", "/sys/fs/cgroup", "/lib/modules", "/boot")},
    **{f"read {file}": lambda file=file: len(Path(file).read_bytes()) > 0 for file in ("/proc/1/cmdline", "/proc/kmsg", "/proc/sys/kernel/hostname", "/proc/cpuinfo", "/proc/kallsyms", "/dev/null")},
    "see others' processes": lambda: Path("/proc/1/comm").read_text(),
    "setuid file": make_setuid,
    "writable and executable": write_and_execute,
    "make executable": make_executable,
    "memfd": lambda: check(os.memfd_create("probe")),
    "user namespace": lambda: check(libc.unshare(CLONE_NEWUSER)),
    "network namespace": lambda: check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)),
    "mount in a user namespace": mount_in_user_namespace,
    "mount namespace": lambda: check(libc.unshare(CLONE_NEWNS)),
    "pid namespace": lambda: check(libc.unshare(CLONE_NEWPID)),
    "tcp": lambda: open_socket(socket.AF_INET, socket.SOCK_STREAM),
    "tcp6": lambda: open_socket(socket.AF_INET6, socket.SOCK_STREAM),
    "ping": lambda: open_socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
    "raw": lambda: open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "packet": lambda: open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    "netlink": lambda: open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "alg": lambda: open_socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
    "vsock": lambda: open_socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "bind": lambda: bind(0),
    "bind a low port": lambda: bind(99),
    "fifo": lambda: schedule(os.SCHED_FIFO, 1),
    "batch": lambda: schedule(os.SCHED_BATCH, 0),
    "idle": lambda: schedule(os.SCHED_IDLE, 0),
    "nicer": lambda: os.nice(5),
    "less nice": lambda: os.nice(-5),
    "personality": lambda: personality(0x0040000),
    "32 bit personality": lambda: personality(8),
    "ptrace": lambda: check(libc.ptrace(0, 0, 0, 0)),
    "chroot": lambda: os.chroot("/"),
    "mlock": lambda: check(libc.mlock(ctypes.create_string_buffer(4096), 4096)),
    "lower a limit": lower_limit,
    "lock a file": lease_file,
    "sethostname": lambda: socket.sethostname("x"),
    "setgroups": lambda: os.setgroups([0]),
    "setuid": lambda: os.setuid(0),
    "io_uring": lambda: call(425, 4, ctypes.create_string_buffer(120)),
    "pidfd": lambda: call(434, os.getpid(), 0),
    "openat2": lambda: call(437, -100, b"/", ctypes.create_string_buffer(24), 24),
    "landlock": lambda: call(444, None, 0, 1),
    "memfd_secret": lambda: call(447, 0),
}


def state() -> dict[str, object]:
    return {
        "ids": [os.getresuid(), os.getresgid(), sorted({os.getgid(), *os.getgroups()})],
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")},
        # Those of /run/user come and go with sessions.
        "mounts": sorted(
            line.split(" ", 4)[4]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if " /run/user/" not in line
        ),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")},
        "status": status("Seccomp", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapAmb", "Cpus_allowed_list"),
        "policy": [os.sched_getscheduler(0), os.nice(0), libc.syscall(252, 1, 0)],
        "oom": [Path(f"/proc/self/{name}").read_text() for name in ("oom_score_adj", "coredump_filter", "personality")],
        "prctl": [libc.prctl(name, 0, 0, 0, 0) for name in (PR_GET_SECUREBITS, PR_GET_TIMERSLACK, PR_GET_DUMPABLE, PR_GET_KEEPCAPS)],
    }


if os.uname().machine == "x86_64":
    ACTS |= X86_64
json.dump(state() | {name: outcome(act) for name, act in ACTS.items()}, sys.stdout)
