# SPDX-License-Identifier: LGPL-2.1-or-later
"""Somebody who has taken over daggyr: a process of its account in a service of its own, with the broker's and the
spawner's sockets before him. What he does is a script that ends by setting `said`, which comes back."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from bedlib import PYTHON, SLOWNESS, run, task_id

# What scripts have at hand; the layouts are those of src/core/wire.
_AT_HAND = r"""
import errno, json, os, resource, socket, struct, sys, time

def broker():
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(60 * SLOWNESS)
    connection.connect("/run/daggyr/broker.sock")
    return connection

MAGIC = 0x3130524B42474744

def frame(type, body, call_id=1, magic=MAGIC, size=None):
    return struct.pack("=QQII", magic, call_id, type, 24 + len(body) if size is None else size) + body

def start(id, call_id=1, cpu=1000000, memory=64 << 20, tasks=10, timeout=1000000, properties=(), n=None, devices=None, n_devices=None):
    n = len(properties) if n is None else n
    if n_devices is None:
        n_devices = 0 if devices is None else 1 + len(devices)
    head = struct.pack("=QQQQII", cpu, memory, tasks, timeout, n, n_devices)
    id = id if isinstance(id, bytes) else id.encode()
    paths = b"".join(path + b"\0" for path in devices or ())
    return frame(0, head + id + b"\0" + paths + b"".join(properties), call_id)

def number(index, value, count=1):
    return struct.pack("=IIQ", index, count, value)

def mask(index, bits):
    return struct.pack("=II", index, len(bits)) + bits

def limit(index, value, path, count=1):
    return struct.pack("=IIQ", index, count, value) + path + b"\0"

def stop(unit, call_id=1):
    return frame(1, unit.encode() + b"\0", call_id)

def kill(unit):
    return frame(2, unit.encode() + b"\0")

def send(connection, frame, *fds):
    socket.send_fds(connection, [frame], fds)

def receive(connection):
    id, error, text = struct.unpack("=Qi256s4x", connection.recv(1000))
    return [id, errno.errorcode.get(error, error), text.split(b"\0")[0].decode()]

def ask(connection, frame, *fds):
    send(connection, frame, *fds)
    return receive(connection)

class Leader:
    "One that the spawner has forked, parked, for the task's scope UNIT."

    def __init__(self, unit, gid=None, no_new_privileges=1):
        strings = b"".join(s.encode() + b"\0" for s in (unit, "/", "sleep", "60", "PATH=/usr/bin:/bin"))
        head = struct.pack("=QQQIIIIIIII", 0x3130525947474144, 56 + len(strings), 0, TASK_UID,
            TASK_UID if gid is None else gid, 0o22, no_new_privileges, 0, 2, 1, 0)
        order = os.memfd_create("order")
        os.write(order, head + strings)
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.feed, feed = socket.socketpair()
        null = os.open("/dev/null", os.O_RDWR)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as spawner:
            spawner.connect("/run/daggyr/spawner.sock")
            request = b"daggyr-leader " + VERSION.encode() + b"\0"
            socket.send_fds(spawner, [request], [null, null, control.fileno(), order, null, feed.fileno()])
            reply, fds, _, _ = socket.recv_fds(spawner, 100, 1)
            SPAWNERS.append(spawner.detach())  # it ends with its connection
        error, self.pid = struct.unpack("=ii", reply)
        assert error == 0, os.strerror(error)
        self.pidfd = fds[0]

    def go(self):
        "Tells it to execute the command: what became of it."
        self.control.settimeout(60 * SLOWNESS)
        message = "=IiiiiiiiQQ6Q"
        self.control.send(struct.pack(message, 0, *[0] * 15))
        type, error = struct.unpack(message, self.control.recv(1000))[:2]
        return "started" if type == 3 else errno.errorcode[error]

SPAWNERS = []

def unit_of(pid):
    lines = open(f"/proc/{pid}/cgroup").read().splitlines()
    line = next((l for l in lines if ":name=systemd:" in l), lines[-1])
    return line.rsplit("/", 1)[1]
"""


def taken_over(script: str, **variables: Any) -> Any:
    """What `said` is after the script was run by the account daggyr in a service."""
    version = run("daggyr", "--version").split()[1]
    given = {"SLOWNESS": SLOWNESS, "VERSION": version, "TASK_UID": int(run("id", "-u", "daggyr-task"))} | variables
    text = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    text += f"\n{_AT_HAND}\n{script}\nprint(json.dumps(said))\n"
    command = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit=daggyr-taken-over-{task_id()}"]
    command += ["--property=User=daggyr", PYTHON, "-c", text]
    done = subprocess.run(command, text=True, capture_output=True, timeout=300 * SLOWNESS, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
