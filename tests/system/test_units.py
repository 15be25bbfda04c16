# SPDX-License-Identifier: LGPL-2.1-or-later
"""The installed units and what belongs to them, in the eyes of systemd's own checks."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import socket
import stat
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bedlib import (
    CAP_SYS_RESOURCE,
    ROOMY,
    SLOWNESS,
    Runner,
    await_that,
    init_has,
    load,
    open_fds,
    open_folder,
    run,
    unit_property,
)

SYSTEM, USER = Path("/usr/lib/systemd/system"), Path("/usr/lib/systemd/user")
SYSTEM_UNITS = [
    "daggyr.service",
    "daggyr.socket",
    "daggyr.slice",
    "daggyr-broker.socket",
    "daggyr-broker@.service",
    "daggyr-spawner.socket",
    "daggyr-spawner@.service",
]
USER_UNITS = ["daggyr.service", "daggyr.socket", "daggyr.slice"]
EXPOSURE_MAX = 3.0


def verify(*command: str) -> str:
    """All that systemd-analyze verify has to say, and how it ended where that is not well."""
    done = subprocess.run(
        ["systemd-analyze", *command],
        text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": tempfile.mkdtemp()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout + f"exit {done.returncode}" * bool(done.returncode)


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    """Lost: a directive that systemd ignores, with a line in a log that nobody reads."""
    # The man page is missing where only build dependencies are installed; that is for the package to see to.
    assert verify("verify", "--man=no", *(str(SYSTEM / unit) for unit in SYSTEM_UNITS)) == ""
    assert verify("--user", "verify", "--man=no", *(str(USER / unit) for unit in USER_UNITS)) == ""
    broken = tmp_path / "broken.service"
    broken.write_text("[Service]\nExecStart=true\nWatchdogSecs=1\n")
    assert "WatchdogSecs" in verify("verify", str(broken))


def test_systemd_knows_the_type_of_the_service(start_runner: Callable[..., Runner]) -> None:
    """Lost: readiness, where a Type= that systemd does not know silently becomes "simple"."""
    version = int(re.search(r"^systemd (\d+)", run("systemctl", "--version"))[1])
    assert unit_property("daggyr.service", "Type") == ("notify-reload" if version >= 253 else "notify")
    assert unit_property(start_runner().unit, "WatchdogUSec") == "30s"
    assert unit_property("daggyr.service", "Restart") == "on-failure"


def test_the_daemon_is_hardened() -> None:
    """Lost: what a mistake in the daemon that parses requests could otherwise reach."""
    command = ["systemd-analyze", "security", "--json=short", "--no-pager", "daggyr.service"]
    exposed = [row for row in json.loads(run(*command)) if row["set"] is False]
    overall = run("systemd-analyze", "security", "--no-pager", "daggyr.service")
    exposure = float(re.search(r"Overall exposure level for daggyr.service: ([\d.]+)", overall)[1])
    assert exposure <= EXPOSURE_MAX, exposed
    assert unit_property("daggyr.service", "CapabilityBoundingSet") == ""
    assert unit_property("daggyr.service", "NoNewPrivileges") == "yes"


def test_the_hardening_is_in_force(start_runner: Callable[..., Runner]) -> None:
    """Lost: all of it, to a kernel or container where systemd leaves it out without a word."""
    runner = start_runner()
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{runner.main_pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 5
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    root = Path(f"/proc/{runner.main_pid}/root")
    inside = Path(f"/proc/{runner.main_pid}/mountinfo").read_text()
    options = {line.split()[4]: line.split()[5] for line in inside.splitlines()}
    assert "ro" in options["/"].split(",")
    assert not list((root / "root").iterdir())


def test_the_spawner_has_the_capabilities_it_needs_and_no_other(start_runner: Callable[..., Runner]) -> None:
    """Lost: tasks, or a boundary that was drawn and not kept."""
    runner = start_runner()
    assert runner.run(["true"])["succeeded"]  # a spawner that has answered has dropped what it is to drop
    pid = unit_property(runner.spawner_unit, "MainPID")
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"Uid:\t{pwd.getpwnam('daggyr').pw_uid}\t" in status
    capabilities = {int(found, 16) for found in re.findall(r"^Cap(?:Prm|Eff|Amb):\t(\w+)", status, re.M)}
    expected = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8  # CHOWN, KILL, SETGID, SETUID, SETPCAP
    if init_has(CAP_SYS_RESOURCE):
        expected |= 1 << CAP_SYS_RESOURCE
    assert capabilities == {expected}
    assert re.search(r"^CapBnd:\t0+$", status, re.M), "what tasks execute could get at its capabilities"


def test_only_the_daemon_reaches_the_spawner() -> None:
    """Lost: whoever can connect there becomes whoever he likes."""
    run("systemctl", "start", "daggyr-spawner.socket")
    found = Path("/run/daggyr/spawner.sock").stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == pwd.getpwnam("daggyr").pw_uid
    assert unit_property("daggyr-spawner.socket", "Accept") == "yes"


def test_a_spawner_goes_with_its_daemon_and_comes_back_without(start_runner: Callable[..., Runner]) -> None:
    """Lost: a process with capabilities that nobody needs, or all tasks to the end of a helper."""
    runner = start_runner(ROOMY)
    running = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(running)["start_time"], what="the start")
    before = runner.spawner_unit
    run("systemctl", "kill", "--signal=KILL", before)
    await_that(lambda: unit_property(before, "ActiveState") != "active", what=f"the end of {before}")
    assert runner.run(["echo", "again"])["output"] == "again\n"
    assert runner.attempt(running)["state"] == "running"
    after = runner.spawner_unit
    runner.delete(f"/api/v1/task/{running}")
    assert runner.wait(running)["result"] == "stopped"
    runner.kill9()
    await_that(lambda: unit_property(after, "ActiveState") == "inactive", what=f"the end of {after}")


def test_a_spawner_buries_its_dead(start_runner: Callable[..., Runner]) -> None:
    """Lost: pids and descriptors, a few with every hundred tasks."""
    runner = start_runner({"capacity_overrides": {"cores": 8, "memory_mb": 65536}})
    assert runner.run(["true"])["succeeded"]
    pid = int(unit_property(runner.spawner_unit, "MainPID"))

    def children() -> str:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text()

    await_that(lambda: children() == "", what=f"no children of {pid}")
    before = open_fds(pid)
    for id in [runner.submit(["sleep", "0.01"]) for _ in range(load(300))]:
        assert runner.wait(id, seconds=60)["succeeded"]
    await_that(lambda: children() == "", what=f"no children of {pid}")
    assert sorted(open_fds(pid)) == sorted(before)


def test_a_spawner_that_hangs_costs_no_task(start_runner: Callable[..., Runner]) -> None:
    """Lost: tasks, or the daemon to its watchdog, for a helper that does not answer."""
    runner = start_runner(ROOMY)
    assert runner.run(["true"])["succeeded"]
    hanging = runner.spawner_unit
    run("systemctl", "kill", "--signal=STOP", hanging)
    try:
        attempt = runner.run(["echo", "heard"])
        assert attempt["output"] == "heard\n", str(attempt)
        assert runner.state == "active"
    finally:
        run("systemctl", "kill", "--signal=CONT", hanging)
    # What it was asked for meanwhile it finds without anybody at the other end.
    await_that(lambda: unit_property(hanging, "ActiveState") == "inactive", what=f"the end of {hanging}")


def test_a_spawner_refuses_what_is_not_its_daemons() -> None:
    """Lost: sense, from a daemon and a spawner of different versions after an upgrade; or the descriptors sent."""
    run("systemctl", "start", "daggyr-spawner.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection, open("/dev/null", "rb") as file:
        connection.settimeout(30 * SLOWNESS)
        connection.connect("/run/daggyr/spawner.sock")
        unit = f"daggyr-spawner@*-{os.getpid()}-0.service"
        requests = [(b"daggyr-leader 0.0\0", 6), (b"x", 0), (b"y" * 5000, 6), (b"daggyr-leader ", 3), (b"z", 9)]
        for text, n_fds in requests * 50:
            socket.send_fds(connection, [text], [file.fileno()] * n_fds)
            error, pid = struct.unpack("ii", connection.recv(100))
            assert (error > 0, pid) == (True, 0)
        name = run("systemctl", "list-units", "--plain", "--no-legend", "--", unit).split()[0]
        pid = int(unit_property(name, "MainPID"))
        assert len(open_fds(pid)) < 12, open_fds(pid)
    await_that(lambda: unit_property(name, "ActiveState") == "inactive", what=f"the end of {name}")


@pytest.mark.serial  # other tests put accounts into the group
def test_sysusers_and_tmpfiles_are_good() -> None:
    """Lost: the accounts and folders, and so the installation."""
    done = subprocess.run(
        ["systemd-sysusers", "--dry-run", "/usr/lib/sysusers.d/daggyr.conf"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    # The accounts exist, so there is nothing to say; a bad line would be named.
    assert (done.returncode, [line for line in done.stdout.splitlines() if "daggyr.conf" in line]) == (0, [])
    done = subprocess.run(
        ["systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/daggyr.conf"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert (done.returncode, done.stdout) == (0, "")
    home = Path(pwd.getpwnam("daggyr-task").pw_dir)
    assert (home.owner(), stat.S_IMODE(home.stat().st_mode)) == ("daggyr-task", 0o700)
    shells = {pwd.getpwnam(name).pw_shell for name in ("daggyr", "daggyr-task")}
    assert all(shell.endswith("nologin") for shell in shells)
    assert grp.getgrnam("daggyr").gr_mem == []


TOKEN = "a-token-of-sufficient-length"


def asks_for_the_token(runner: Runner) -> bool:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert runner.get("/api/v1/capacity", headers=headers).status_code == 200
    return runner.get("/api/v1/capacity").status_code == 401


def test_a_token_as_a_credential_is_found(start_runner: Callable[..., Runner]) -> None:
    """Lost: the ways to hand over a token that leave no file which the daemon's account can read."""
    path = open_folder("/etc") / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    assert asks_for_the_token(start_runner(properties={"LoadCredential": f"daggyr.token:{path}"}))
    assert asks_for_the_token(start_runner(properties={"SetCredential": f"daggyr.token:{TOKEN}"}))
    assert not asks_for_the_token(start_runner())


@pytest.mark.serial
def test_a_token_in_the_credential_store_is_found(start_runner: Callable[..., Runner]) -> None:
    """Lost: a token that needs no change to the unit."""
    path = Path("/etc/credstore/daggyr.token")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(TOKEN)
    path.chmod(0o600)
    try:
        assert asks_for_the_token(start_runner())
    finally:
        path.unlink()


def test_the_daemon_comes_before_its_tasks() -> None:
    """Lost: an answer from the daemon while tasks keep every processor, or use up the memory."""
    weights = {unit: int(unit_property(unit, "CPUWeight")) for unit in ("daggyr.slice", "daggyr.service")}
    assert weights["daggyr.slice"] < 100 < weights["daggyr.service"]
    assert int(unit_property("daggyr.service", "OOMScoreAdjust")) < 0
