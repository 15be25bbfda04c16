# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyr for one user, under "systemd --user": the same tasks, with that user's rights and limits."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedlib import PYTHON, SLOWNESS, await_that, load, processes_of, program_in, run, scope_of, task_id

pytestmark = pytest.mark.serial

NAME, UID = "daggyr-bob", 4242
RUNTIME = Path(f"/run/user/{UID}")
SERVICE, SOCKET = "daggyr.service", "daggyr.socket"
SMALL = {"cores": 0.1, "memory_mb": 32}


def as_bob(*command: str) -> list[str]:
    """A command as it is where bob has logged in."""
    variables = [f"HOME=/home/{NAME}", f"XDG_RUNTIME_DIR={RUNTIME}", f"PATH={os.environ['PATH']}"]
    rights = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--init-groups"]
    return [*rights, "env", "--chdir=/", "--ignore-environment", *variables, *command]


def user_systemctl(*arguments: str, **options: Any) -> str:
    return run(*as_bob("systemctl", "--user", *arguments), **options)


def user_property(unit: str, name: str) -> str:
    return user_systemctl("show", "--value", "--property", name, unit).rstrip("\n")


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60 * SLOWNESS)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    headers = {} if body is None else {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else None


class Bob:
    """What bob's clients do. It goes over his socket unless told a port."""

    port = 0

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        if self.port:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * SLOWNESS)
        else:
            connection = Connection(RUNTIME / "daggyr.sock")
        return ask(connection, method, path, body)

    def submit(self, command: list[str], **fields: Any) -> str:
        id = task_id("user")
        body = {"command": command, "resources": SMALL} | fields
        status, answer = self.ask("POST", f"/api/v1/task/{id}", body)
        assert status == 202, answer
        return id

    def wait(self, id: str) -> dict[str, Any]:
        status, attempt = self.ask("GET", f"/api/v1/task/{id}?wait={min(300, 30 * SLOWNESS)}")
        assert (status, attempt["state"] in ("queued", "running")) == (200, False), attempt
        return attempt

    def await_running(self, id: str) -> list[int]:
        return await_that(lambda: processes_of(id), what=f"the start of {id}")


@pytest.fixture(scope="module")
def account() -> Iterator[None]:
    """bob, whose service manager runs without a login."""
    run("useradd", "--create-home", f"--uid={UID}", "--user-group", NAME)
    run("loginctl", "enable-linger", NAME)
    await_that(lambda: (RUNTIME / "bus").exists(), timeout=30, what="bob's service manager")
    await_that(lambda: user_systemctl("is-system-running", check=False).strip() == "running", timeout=30)
    yield
    run("loginctl", "disable-linger", NAME)
    run("systemctl", "stop", f"user@{UID}.service")


@pytest.fixture
def bob(account: None) -> Iterator[Bob]:
    """His socket units listen; the service is not running yet."""
    user_systemctl("start", SOCKET)
    yield Bob()
    user_systemctl("stop", SOCKET, SERVICE)
    user_systemctl("reset-failed", SOCKET, SERVICE, check=False, stderr=subprocess.DEVNULL)


def test_the_first_client_starts_the_service(bob: Bob) -> None:
    """Lost: a runner for people who are not root on their machine."""
    assert user_property(SERVICE, "ActiveState") == "inactive"
    id = bob.submit(["sh", "-c", "id -un; pwd; echo $HOME; cat /proc/self/cgroup"])
    attempt = bob.wait(id)
    assert attempt["result"] == "success", attempt
    user, directory, home, *cgroup = attempt["output"].splitlines()
    assert (user, directory, home) == (NAME, f"/home/{NAME}", f"/home/{NAME}")
    assert any(line.endswith(f"/user@{UID}.service/daggyr.slice/{scope_of(id)}") for line in cgroup)
    assert user_property(SERVICE, "ActiveState") == "active"
    assert run("ps", "-o", "user=", "-p", user_property(SERVICE, "MainPID")).strip() == NAME


def test_a_task_opens_its_streams_by_name(bob: Bob) -> None:
    """Lost: programs that log to /dev/stdout or /dev/stderr fail for users."""
    script = "echo a >/dev/stdout; echo b >/dev/stderr; echo c | tee /dev/stderr; cat /dev/stdin"
    attempt = bob.wait(bob.submit(["sh", "-ec", script], stdin="in\n"))
    assert (attempt["output"], attempt["error"], attempt["result"]) == ("a\nc\nin\n", "b\nc\n", "success")


def test_nobody_else_reaches_it(bob: Bob) -> None:
    """Lost: any user of the machine could run commands as this one."""
    path = RUNTIME / "daggyr.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.owner() == NAME
    assert bob.ask("GET", "/ready") == (200, None)
    listening = run("ss", "--listening", "--tcp", "--numeric", "--processes")
    assert f"pid={user_property(SERVICE, 'MainPID')}," not in listening


def test_a_task_can_be_stopped(bob: Bob) -> None:
    """Lost: the way to get rid of a task."""
    id = bob.submit(["sh", "-c", "setsid sleep infinity & exec sleep infinity"])
    await_that(lambda: len(processes_of(id)) == 2, what="both processes")
    assert user_property(scope_of(id), "BindsTo") == SERVICE
    assert bob.ask("DELETE", f"/api/v1/task/{id}")[0] == 202
    assert bob.wait(id)["result"] == "stopped"
    assert processes_of(id) == []


def test_tasks_end_with_a_daemon_that_was_killed(bob: Bob) -> None:
    """Lost: processes that nobody knows of any more."""
    id = bob.submit(["sh", "-c", "trap '' TERM; setsid sleep infinity & sleep infinity"])
    await_that(lambda: len(processes_of(id)) == 3, what="all processes")
    before = user_property(SERVICE, "MainPID")
    os.kill(int(before), signal.SIGKILL)
    await_that(lambda: not processes_of(id), what="the end of the task")
    await_that(lambda: user_property(SERVICE, "MainPID") not in ("0", before), what="a new daemon")
    assert bob.ask("GET", f"/api/v1/task/{id}")[0] == 404


def test_tasks_end_with_a_daemon_that_was_stopped(bob: Bob) -> None:
    """Lost: the same, at every logout."""
    id = bob.submit(["sleep", "infinity"])
    bob.await_running(id)
    user_systemctl("stop", SERVICE)
    assert processes_of(id) == []
    assert user_property(SERVICE, "Result") == "success"


def test_an_upgrade_in_place_ends_no_task(bob: Bob) -> None:
    """Lost: a user's tasks, to a new version."""
    id = bob.submit(["sh", "-c", "echo here; exec sleep infinity"])
    processes = bob.await_running(id)
    pid = int(user_property(SERVICE, "MainPID"))
    before = program_in(pid)
    user_systemctl("kill", "--signal=SIGUSR2", "--kill-whom=main", SERVICE)
    await_that(lambda: program_in(pid) != before, what="the upgrade")
    assert bob.ask("GET", "/ready") == (200, None)
    assert int(user_property(SERVICE, "MainPID")) == pid
    assert processes_of(id) == processes
    assert bob.wait(bob.submit(["echo", "new"]))["output"] == "new\n"
    assert bob.ask("DELETE", f"/api/v1/task/{id}")[0] == 202
    attempt = bob.wait(id)
    assert (attempt["result"], attempt["output"]) == ("stopped", "here\n"), attempt


def test_the_journal_has_the_output_under_the_users_unit(bob: Bob) -> None:
    """Lost: "journalctl --user -u" as the way to a task's output."""
    id = bob.submit(["sh", "-c", "echo heard"])
    assert bob.wait(id)["result"] == "success"
    # What --user --unit asks for; it itself needs a journal on disk, split by user.
    match = [f"_SYSTEMD_USER_UNIT={scope_of(id)}", f"_UID={UID}"]

    def lines() -> list[str]:
        run("journalctl", "--sync")
        return run("journalctl", "--quiet", "--output=cat", *match).splitlines()

    await_that(lambda: "heard" in lines(), what="the line in the journal")


def delegated() -> set[str]:
    """The controllers that bob's service manager can use."""
    folder = Path(f"/sys/fs/cgroup/user.slice/user-{UID}.slice/user@{UID}.service")
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return set()
    return set((folder / "cgroup.controllers").read_text().split())


@pytest.mark.kernel
def test_limits_without_effect_are_told(bob: Bob) -> None:
    """Lost: trust in limits that the kernel was never told of."""
    missing = [name for name in ("cpu", "memory", "pids") if name not in delegated()]
    status, capacity = bob.ask("GET", "/api/v1/capacity")
    assert status == 200
    assert [warning.split()[1] for warning in capacity["warnings"]] == missing
    run("journalctl", "--sync")
    log = run("journalctl", "--quiet", "--output=cat", f"_SYSTEMD_USER_UNIT={SERVICE}", f"_UID={UID}")
    for warning in capacity["warnings"]:
        assert f"Limits: {warning}" in log


@pytest.mark.kernel
def test_limits_work_where_they_were_delegated(bob: Bob) -> None:
    """Lost: the point of limits, or the honesty of the warnings: each limit either holds or is warned of."""
    resources = {"cores": 0.25, "memory_mb": 48}
    id = bob.submit(["sleep", "infinity"], resources=resources, tasks_max=7)
    bob.await_running(id)
    folder = Path(f"/sys/fs/cgroup/user.slice/user-{UID}.slice/user@{UID}.service/daggyr.slice/{scope_of(id)}")
    expected = {"cpu": ("cpu.max", "25000 100000"), "memory": ("memory.max", str(48 << 20)), "pids": ("pids.max", "8")}
    for controller, (file, value) in expected.items():
        if controller in delegated():
            assert (folder / file).read_text().strip() == value
        else:
            assert not (folder / file).exists()
    if "memory" in delegated():
        hungry = [PYTHON, "-c", "x = bytearray(100 << 20)"]
        results = [bob.wait(bob.submit(hungry, resources=resources))["result"] for _ in range(load(100))]
        assert results == ["oom-kill"] * len(results)
    bob.ask("DELETE", f"/api/v1/task/{id}")
    bob.wait(id)


def test_the_system_service_has_nothing_to_warn_of(account: None) -> None:
    """Lost: the warnings, in noise."""
    run("systemctl", "start", "daggyr.socket")
    try:
        status, capacity = ask(Connection(Path("/run/daggyr/daggyr.sock")), "GET", "/api/v1/capacity")
        assert (status, capacity["warnings"]) == (200, [])
    finally:
        run("systemctl", "stop", "daggyr.socket", "daggyr.service")


def test_from_a_shell_it_makes_itself_a_unit(account: None) -> None:
    """Lost: tasks that end with a daemon which was started by hand."""
    bob = Bob()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bob.port = probe.getsockname()[1]
    config = Path(tempfile.mkdtemp(), "daggyr.json")
    config.write_text(json.dumps({"port": bob.port}))
    config.parent.chmod(0o755)
    daemon = subprocess.Popen(as_bob("/usr/bin/daggyr", "--user", "--config", str(config)), stdin=subprocess.DEVNULL)
    try:
        await_that(lambda: _answers(bob), timeout=30, what="an answer")
        own = f"daggyr-runner-{daemon.pid}.scope"
        assert user_property(own, "ActiveState") == "active"
        id = bob.submit(["sleep", "infinity"])
        bob.await_running(id)
        assert user_property(scope_of(id), "BindsTo") == own
        daemon.kill()
        daemon.wait()
        await_that(lambda: not processes_of(id), what="the end of the task")
        await_that(lambda: user_property(own, "ActiveState") == "inactive", what=f"the end of {own}")
    finally:
        daemon.kill()
        daemon.wait()


def test_devices_are_handed_out_but_not_closed(account: None) -> None:
    """Lost: the start of every task, to a setting that a user's systemd has no rights for."""
    bob = Bob()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bob.port = probe.getsockname()[1]
    config = Path(tempfile.mkdtemp(), "daggyr.json")
    devices = {"gpu": {"items": [{"id": "a", "paths": ["/dev/full"]}, {"id": "b"}]}}
    config.write_text(json.dumps({"port": bob.port, "devices": devices}))
    config.parent.chmod(0o755)
    daemon = subprocess.Popen(as_bob("/usr/bin/daggyr", "--user", "--config", str(config)), stdin=subprocess.DEVNULL)
    try:
        await_that(lambda: _answers(bob), timeout=30, what="an answer")
        script = ': </dev/full; echo "$DAGGYR_DEVICES_GPU"'
        for n, ids in ((0, []), (2, ["a", "b"])):
            attempt = bob.wait(bob.submit(["sh", "-ec", script], resources=SMALL | {"gpu": n}))
            assert attempt["result"] == "success", attempt
            assert (attempt["output"], attempt.get("devices", {"gpu": []})) == (",".join(ids) + "\n", {"gpu": ids})
    finally:
        daemon.terminate()
        daemon.wait()


def _answers(bob: Bob) -> bool:
    try:
        return bob.ask("GET", "/ready")[0] == 200
    except ConnectionError:
        return False


def test_it_is_bobs_and_not_roots(bob: Bob) -> None:
    """Lost: the promise that user mode is nothing more than what the user could do anyway."""
    status, problem = bob.ask("POST", "/api/v1/task", {"command": ["id"], "user": "root", "resources": SMALL})
    assert status in (403, 422), problem
    attempt = bob.wait(bob.submit(["cat", "/proc/self/status"]))
    assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}\n" in attempt["output"]
    assert f"Groups:\t{pwd.getpwnam(NAME).pw_gid} \n" in attempt["output"]
    for line in attempt["output"].splitlines():
        if line.startswith(("CapPrm", "CapEff", "CapAmb")):
            assert int(line.split()[1], 16) == 0, line
