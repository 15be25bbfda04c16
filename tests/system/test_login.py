# SPDX-License-Identifier: LGPL-2.1-or-later
"""A task may do what its account may do: nothing that hardens the daemon is handed down to it."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bedlib import PYTHON, ROOMY, Runner, ShellRunner, run

PROBE = Path(__file__).with_name("login_probe.py").read_text()
ACCOUNT = "daggyr-task"

CRIPPLING = {
    "SystemCallFilter": "@system-service",
    "PrivateTmp": "yes",
    "ProtectSystem": "strict",
    "PrivateNetwork": "no",
    "RestrictNamespaces": "yes",
    "LockPersonality": "yes",
    "NoNewPrivileges": "yes",
    "LimitNOFILE": "4000",
    "LimitCORE": "4096",
    "Nice": "3",
    "CPUSchedulingPolicy": "batch",
    "IOSchedulingClass": "idle",
    "UMask": "0077",
    "TimerSlackNSec": "1ms",
    "CoredumpFilter": "all",
    "Personality": "x86-64",
    "IgnoreSIGPIPE": "yes",
    "SecureBits": "noroot-locked",
}
"""What an administrator may set for the daemon, on top of what daggyr.service has."""


def probe_as_login() -> dict[str, Any]:
    command = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--uid={ACCOUNT}"]
    # As sshd and login do: with PAM, and the account's groups and limits.
    command += ["--property=PAMName=login", "--property=IgnoreSIGPIPE=no", PYTHON, "-c", PROBE]
    return json.loads(run(*command))


def probe_as_task(runner: Runner) -> dict[str, Any]:
    attempt = runner.run([PYTHON, "-c", PROBE])
    assert attempt["result"] == "success", attempt
    return json.loads(attempt["output"])


@pytest.mark.serial  # others' units come and go with mounts of theirs, between the two looks
@pytest.mark.parametrize("properties", [{}, CRIPPLING], ids=["as installed", "hardened further"])
def test_a_task_is_and_may_what_a_login_of_its_account_is_and_may(
    start_runner: Callable[..., Runner], properties: dict[str, str]
) -> None:
    """Lost: builds and containers that work by hand, and fail as tasks for no reason that anybody sees."""
    task, login = probe_as_task(start_runner(ROOMY, properties=properties)), probe_as_login()
    different = {name: (task[name], login[name]) for name in login if task[name] != login[name]}
    assert different == {}


def test_the_probe_sees_a_sandbox() -> None:
    """Lost: this file, to a probe that finds everything alike."""
    command = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--uid={ACCOUNT}"]
    command += [f"--property={name}={value}" for name, value in CRIPPLING.items()]
    sandboxed, login = json.loads(run(*command, PYTHON, "-c", PROBE)), probe_as_login()
    different = {name for name in login if sandboxed[name] != login[name]}
    expected = {"namespaces", "mounts", "limits", "status", "policy", "prctl", "user namespace", "bpf", "write to /etc"}
    assert different >= expected - {"write to /etc"}, expected - different


@pytest.mark.serial
def test_limits_of_tasks_are_set_where_they_are_forked(start_runner: Callable[..., Runner]) -> None:
    """Lost: the documented place for "ulimit" and "nice" of all tasks."""
    drop_in = Path("/run/systemd/system/daggyr-spawner@.service.d/test.conf")
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nLimitNOFILE=777:888\nNice=5\n")
    run("systemctl", "daemon-reload")
    try:
        output = start_runner(ROOMY).run(["sh", "-c", "ulimit -Sn; ulimit -Hn; nice"])["output"]
    finally:
        drop_in.unlink()
        drop_in.parent.rmdir()
        run("systemctl", "daemon-reload")
    assert output.split() == ["777", "888", "5"]


def test_a_daggyr_from_a_shell_hands_down_the_shells_limits() -> None:
    """Lost: programs that cannot cope with the descriptors which the daemon allows itself."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, before[1]))
    runner = ShellRunner(ROOMY)
    try:
        runner.start()
        assert runner.run(["sh", "-c", "ulimit -Sn; ulimit -Hn"])["output"].split() == ["500", str(before[1])]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        runner.discard()
