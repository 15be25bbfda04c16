# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the system tests stand on: waiting for conditions, asking systemd, and daggyr under test.

Everything here runs as root inside a bed (./dev boot), where the service manager and the whole file
system may be used up. Tests run several at a time, so units, ports and task ids are unique.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import requests

import openapi

T = TypeVar("T")

SLOWNESS = float(os.environ.get("DAGGYR_TEST_SLOWNESS", "1"))
"""Every time-out is multiplied by this: sanitizers and emulated machines are slow."""

IN_VM = bool(os.environ.get("DAGGYR_VM"))
"""Whether this is the virtual machine (./dev vm) and not a bed in namespaces (./dev boot)."""

CAP_SYS_RESOURCE = 24


def load(n: int) -> int:
    """How many tasks, clients or rounds are a load here: n, but few of them on an emulated machine, which
    would be busy with them for many minutes."""
    return max(1, n // 10) if IN_VM else n


# LeakSanitizer of clang 14 now and then hangs at a daemon's exit (seen in 3 of 480): test_leaks.py has
# it in a form that copes with that.
SANITIZER_OPTIONS = [
    "ASAN_OPTIONS=strict_string_checks=1:detect_stack_use_after_return=1"
    ":check_initialization_order=1:strict_init_order=1:detect_leaks=0",
    "UBSAN_OPTIONS=print_stacktrace=1:print_summary=1:halt_on_error=1",
]

SMALL_QUARANTINE = {"Environment": f"{SANITIZER_OPTIONS[0]}:quarantine_size_mb=8"}
"""Properties of a Runner whose memory is measured: what is freed stays resident in ASan's quarantine,
256 MB by default."""

_worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
_counter = itertools.count(1)

WORKER_NUMBER = int(re.sub(r"\D", "", _worker) or 0)
"""Of this process among those of pytest-xdist, of which there are at most 4."""

# Below the ports that the kernel hands out by itself, and a range for each worker.
_ports = itertools.count(10000 + 5000 * WORKER_NUMBER)


def next_port() -> int:
    """A port that nobody else in this bed listens on."""
    return next(_ports)


BROKEN_OFF = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
"""How a request ends whose daemon ends before, or in the middle of, its answer."""

PATIENCE = 2
"""How much longer than expected neighbours may hold up whatever is awaited: where all is well it costs nothing."""


def await_that(predicate: Callable[[], T], timeout: float = 10, what: str = "the condition") -> T:
    """Calls the predicate until it returns something true, and returns that."""
    patience = timeout * SLOWNESS * PATIENCE
    deadline = time.monotonic() + patience
    pause = 0.005
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for: {what}")
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return value


def run(*command: str, check: bool = True, **options: Any) -> str:
    """Runs a command to its end and returns its stdout."""
    done = subprocess.run(
        command, text=True, stdout=subprocess.PIPE, timeout=60 * SLOWNESS, check=check, **options
    )
    return done.stdout


def init_has(capability: int) -> bool:
    """Whether systemd can do what takes this capability (a number) here; in a container it may not."""
    status = Path("/proc/1/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    return bool(int(line.split()[1], 16) >> capability & 1)


def unit_property(unit: str, name: str) -> str:
    """A property as systemctl prints it; empty when there is none."""
    return run("systemctl", "show", "--value", "--property", name, unit).rstrip("\n")


def unit_exists(unit: str) -> bool:
    """Whether systemd still has the unit in memory in any state that matters."""
    listed = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--", unit)
    return bool(listed.strip())


def cgroup_folder(unit: str, controller: str = "") -> Path | None:
    """The unit's cgroup in the hierarchy of a v1 controller, in systemd's own hierarchy without one;
    on unified v2 both are the same. None when the unit has no cgroup (any more)."""
    path = unit_property(unit, "ControlGroup")
    if not path:
        return None
    top = Path("/sys/fs/cgroup")
    if not (top / "cgroup.controllers").exists():
        top /= controller or "systemd"
    return top / path.lstrip("/")


def cgroup_procs(unit: str) -> list[int]:
    """The processes in the unit's cgroup, none when it is gone."""
    folder = cgroup_folder(unit)
    try:
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()] if folder else []
    except OSError:
        return []


def processes_of(task: str) -> list[int]:
    """The processes that have a task's environment, in whatever cgroup and session they are."""
    mark = f"DAGGYR_TASK_ID={task}".encode()
    return [pid for pid, environment in _all_proc_files("environ") if mark in environment.split(b"\0")]


def _all_proc_files(name: str) -> Iterator[tuple[int, bytes]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), (folder / name).read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # gone meanwhile
            pass


def remains_of(task: str) -> list[str]:
    """All that is left of a task on this machine: processes, cgroups of every hierarchy, its unit."""
    scope = scope_of(task)
    top = Path("/sys/fs/cgroup")
    remains = [f"process {pid}" for pid in processes_of(task)]
    for pattern in (f"daggyr.slice/{scope}", f"*/daggyr.slice/{scope}"):
        remains += map(str, top.glob(pattern))
    return remains + [scope] * unit_exists(scope)


def free_cores(runner: Runner) -> float:
    return runner.get("/api/v1/capacity").json()["free"]["cores"]


def await_nothing_left(*tasks: str) -> None:
    """systemd takes a moment to remove an empty scope."""
    remains: list[str] = []

    def is_gone(task: str) -> bool:
        remains[:] = remains_of(task)
        return not remains

    for task in tasks:
        try:
            await_that(lambda: is_gone(task), what=f"nothing of {task} to be left")
        except AssertionError as error:
            raise AssertionError(f"{error}; there is {', '.join(remains)}") from None


def open_folder(parent: str = "/tmp") -> Path:
    """A new folder that tasks, whoever they run as, may write to. What daggyr.service is to see as well (tokens,
    certificates) has another parent than /tmp, of which it has its own.

    It is not sticky: in a sticky one, not even root opens the files of others with O_CREAT where
    fs.protected_regular is set, as Debian does."""
    folder = Path(tempfile.mkdtemp(prefix="daggyr-test-", dir=parent))
    folder.chmod(0o777)
    return folder


class Gate:
    """What tasks wait for, in the shell command `awaited`, until it is opened."""

    def __init__(self) -> None:
        self._file = open_folder() / "open"
        self.awaited = f"until [ -e {self._file} ]; do sleep 0.02; done"

    def open(self) -> None:
        self._file.touch()


def submit_gated(runner: Runner, **fields: Any) -> tuple[str, Gate]:
    """A running task whose output is "done" when its gate has been opened."""
    gate = Gate()
    id = runner.submit(["sh", "-c", f"{gate.awaited}; echo done"], **fields)
    await_that(lambda: runner.attempt(id)["start_time"], what=f"the start of {id}")
    return id, gate


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_fds(pid: int) -> dict[int, str]:
    """What each descriptor of a process is open on."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(link.name)] = os.readlink(link)
        except FileNotFoundError:  # closed meanwhile
            pass
    return found


def settled_fds(pid: int) -> dict[int, str]:
    """The same of a runner at rest, once it has what it opens after it has begun to serve, logind's lock last, and
    whoever was served has gone."""
    last: list[dict[int, str]] = [{}]

    def is_settled() -> bool:
        time.sleep(0.1)
        last.append(open_fds(pid))
        return last[-1] == last[-2] and any("/inhibit/" in target for target in last[-1].values())

    await_that(is_settled, what="the descriptors that a runner has by itself")
    return last[-1]


def program_in(pid: int) -> str:
    """What tells one program that a process executes from the next: where the kernel has put its code and stack."""
    return Path(f"/proc/{pid}/auxv").read_bytes().hex()


def restart_logind() -> None:
    """However often: the sixth start within 10 s would be refused."""
    run("systemctl", "reset-failed", "systemd-logind.service")
    run("systemctl", "restart", "systemd-logind.service")


def journal_of(unit: str, output: str = "short-precise") -> str:
    """All that the journal has of a unit so far."""
    run("journalctl", "--sync")
    return run("journalctl", "--quiet", "--no-pager", "--unit", unit, "--output", output)


@contextlib.contextmanager
def injected(daemon: Runner, syscall: str, fault: str) -> Iterator[subprocess.Popen[str]]:
    """FAULT, in strace's words, is what these system calls of the daemon and all its threads meet from now on."""
    pid = daemon.main_pid
    inject = ["-e", f"trace={syscall}", "-e", f"inject={syscall}:{fault}"]
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", *inject, "-p", str(pid)], text=True)
    try:
        threads = Path(f"/proc/{pid}/task")
        await_that(
            lambda: all("TracerPid:\t0\n" not in (thread / "status").read_text() for thread in threads.iterdir()),
            what="strace to have attached to all threads",
        )
        yield tracer
    finally:
        tracer.terminate()
        tracer.wait(timeout=10 * SLOWNESS)


def task_id(name: str = "t") -> str:
    """A task id that no other test uses: scopes of all runners share one name space."""
    return f"{name}.{_worker}.{next(_counter)}"


def timestamp(rfc3339: str) -> float:
    """The seconds since the epoch that a daemon's answer means."""
    return datetime.fromisoformat(rfc3339.replace("Z", "+00:00")).timestamp()


def scope_of(task: str) -> str:
    """The unit of a task, its id escaped as systemd does."""
    escaped = re.sub(
        rb"[^A-Za-z0-9:_.]", lambda found: b"\\x%02x" % found[0], task.encode()
    ).decode()
    return f"daggyr-task-{escaped}.scope"


ROOMY = {"capacity_overrides": {"cores": 32, "memory_mb": 65536}}
"""A configuration under which capacity is not what a test has to think of."""

PYTHON = "/usr/bin/python3"

BROOD_SIZE = 5
_BROOD = """
setsid sleep infinity &
(sleep infinity &)
(setsid sh -c 'sleep infinity & exec sleep infinity' &)
exec sleep infinity
"""


def submit_brood(runner: Runner, stubborn: bool = False, **fields: Any) -> str:
    """Submits a task of several processes: double-forked ones, in sessions of their own, orphans, and
    with stubborn all of them deaf to SIGTERM. Returns its id when all are there."""
    script = "trap '' TERM\n" * stubborn + _BROOD
    id = runner.submit(["sh", "-c", script], **fields)
    await_that(lambda: _names(processes_of(id)) == ["sleep"] * BROOD_SIZE, what=f"the brood of {id}")
    return id


def _names(pids: list[int]) -> list[str]:
    names = []
    for pid in pids:
        try:
            names.append(Path(f"/proc/{pid}/comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):
            pass
    return names


RELOADED, KEPT = "Configuration reloaded", "Keeping the configuration as it was"


class Runner:
    """One daggyr of its own, run by systemd from the installed daggyr.service with only the command
    line, the name and what follows from the name replaced: so it has the account, the rights and the
    ExecStopPost= of the real one.

    config is the content of its configuration file, properties are further lines for [Service].
    It is listening once start() returns.
    """

    PROGRAM = "daggyr"

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        properties: Mapping[str, str | Iterable[str]] | None = None,
    ) -> None:
        self.name = f"{self.PROGRAM}-test-{_worker}-{next(_counter)}"
        self.unit = f"{self.name}.service"
        self.config = {"port": next_port()} | dict(config or {})
        self.properties = dict(properties or {})
        self.made_at = time.time()
        self.url = f"http://127.0.0.1:{self.config['port']}"
        self.http = requests.Session()
        self.http.trust_env = False
        self._unit_file = Path("/run/systemd/system", self.unit)
        self.config_file = Path("/run/daggyr-test", f"{self.name}.json")

    def __enter__(self) -> Runner:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.discard()

    def start(self) -> Runner:
        self.config_file.parent.mkdir(mode=0o755, exist_ok=True)
        self.config_file.write_text(json.dumps(self.config))
        # A unit that systemd has never heard of needs no daemon-reload.
        self._unit_file.write_text(self._unit_text())
        try:
            run("systemctl", "start", self.unit)
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"{self.unit} did not start:\n{self.journal()}") from error
        return self

    def stop(self) -> None:
        """Stops it as an administrator would, and insists on an orderly end."""
        run("systemctl", "stop", self.unit)
        result = unit_property(self.unit, "Result")
        assert result == "success", f"{self.unit} ended with {result}"

    def kill9(self) -> None:
        """Kills the daemon's process, and returns when systemd has noticed.

        A scope that it asked for in its last moment may have systemd start it anew, by BindsTo=.
        """
        pid = self.main_pid
        run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", self.unit)
        await_that(
            lambda: self.main_pid != pid and self.state != "deactivating", what=f"the end of {self.unit}"
        )

    def reload(self, outcome: str = RELOADED, content: str | None = None) -> str:
        """Has it read its configuration file, with `config` as it is now or another content; returns what it logged
        meanwhile, as soon as the outcome is there: systemd 252 returns when the daemon has only been told, and later
        ones fail where it has."""
        self.config_file.write_text(json.dumps(self.config) if content is None else content)
        before = len(self.journal())
        run("systemctl", "reload", self.unit, check=False)
        await_that(lambda: outcome in self.journal()[before:], what=f'"{outcome}"')
        return self.journal()[before:]

    def reconfigure(self, **changes: Any) -> str:
        """Has it take up what is changed in `config`, which itself stays as it is."""
        return self.reload(content=json.dumps(self.config | changes))

    def upgrade(self) -> None:
        """Has it execute its program anew, and returns when that serves."""
        before = program_in(self.main_pid)
        os.kill(self.main_pid, signal.SIGUSR2)
        self.await_upgraded(before)

    def await_upgraded(self, before: str) -> None:
        await_that(lambda: program_in(self.main_pid) != before, timeout=20, what=f"{self.name} to be upgraded")
        await_that(lambda: self.get("/ready").status_code == 200, what="the new program to be ready")

    def discard(self) -> None:
        """Leaves nothing of it behind, whatever state it is in."""
        run("systemctl", "stop", self.unit, check=False, stderr=subprocess.DEVNULL)
        run("systemctl", "reset-failed", self.unit, check=False, stderr=subprocess.DEVNULL)
        self._unit_file.unlink(missing_ok=True)
        self.config_file.unlink(missing_ok=True)
        self.http.close()

    @property
    def state(self) -> str:
        return unit_property(self.unit, "ActiveState")

    @property
    def main_pid(self) -> int:
        return int(unit_property(self.unit, "MainPID"))

    @property
    def spawner_unit(self) -> str:
        """The service from whose process its leaders are forked; systemd names it after the one it was started for."""
        pattern = f"daggyr-spawner@*-{self.main_pid}-*.service"
        # Nobody waits for systemd to have accepted the daemon's connection, which makes that unit.
        listed = lambda: run("systemctl", "list-units", "--plain", "--no-legend", "--", pattern).split()
        return await_that(listed, what=f"the spawner of {self.name}")[0]

    def journal(self) -> str:
        return journal_of(self.unit)

    def scopes(self) -> list[str]:
        """The units of its tasks that systemd has, live or about to go."""
        # Names with a backslash come quoted, and it doubled.
        bound = unit_property(self.unit, "BoundBy").replace('"', "").replace(r"\\", "\\").split()
        return [unit for unit in bound if unit.endswith(".scope") and unit_exists(unit)]

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", 60 * SLOWNESS)
        answer = self.http.request(method, self.url + path, **options)
        openapi.check(answer, streamed=options.get("stream", False))
        return answer

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> requests.Response:
        return self.request("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> requests.Response:
        return self.request("DELETE", path, **options)

    def submit(self, command: list[str], id: str | None = None, **fields: Any) -> str:
        """Submits a task that must be accepted as a new one; returns its id."""
        id = id or task_id()
        answer = self.post(f"/api/v1/task/{id}", json={"command": command} | fields)
        assert answer.status_code == 202, f"{answer.status_code}: {answer.text}"
        return id

    def attempt(self, id: str, **parameters: Any) -> dict[str, Any]:
        """The TaskAttempt of a task that must be known."""
        answer = self.get(f"/api/v1/task/{id}", params=parameters)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        return answer.json()

    def wait(self, id: str, seconds: float = 30) -> dict[str, Any]:
        """The TaskAttempt of a task that must end in time."""
        attempt = self.attempt(id, wait=min(300, seconds * SLOWNESS))
        assert attempt["state"] not in ("queued", "running"), f"still {attempt['state']}: {attempt}"
        return attempt

    def run(self, command: list[str], **fields: Any) -> dict[str, Any]:
        """Submits a task and returns its TaskAttempt when it has ended."""
        return self.wait(self.submit(command, **fields))

    def _unit_text(self) -> str:
        lines = ["[Unit]", f"Description={self.PROGRAM} for a test"]
        lines += self._needed_units()
        lines += ["", "[Service]"]
        lines += _installed_service_lines(self.PROGRAM)
        lines += [f"ExecStart=/usr/bin/{self.PROGRAM} --config {self.config_file}", "Restart=no"]
        lines += self._own_folders()
        for name, values in self.properties.items():
            for value in [values] if isinstance(values, str) else values:
                lines.append(f"{name}={value}")
        return "\n".join(lines) + "\n"

    def _needed_units(self) -> list[str]:
        sockets = "daggyr-broker.socket daggyr-spawner.socket"
        return [f"Requires={sockets}", f"After={sockets}"]

    def _own_folders(self) -> list[str]:
        return [f"RuntimeDirectory={self.name}", "CacheDirectory=daggyr"]


def _installed_service_lines(program: str) -> list[str]:
    """[Service] of a program's unit as it was installed, without what a second instance cannot share."""
    own = ("ExecStart=", "Restart=", "RestartSec=", "RuntimeDirectory=", "Sockets=")
    own += ("StateDirectory=", "CacheDirectory=")
    text = Path(f"/usr/lib/systemd/system/{program}.service").read_text()
    section = re.search(r"^\[Service\]\n(.*?)(?=^\[|\Z)", text, re.DOTALL | re.MULTILINE)
    assert section, f"{program}.service has no [Service]"
    joined = section[1].replace("\\\n", " ")
    return [line for line in joined.splitlines() if line and not line.startswith((*own, "#", ";"))]


class Queue(Runner):
    """One daggyd of its own, run by systemd from the installed daggyd.service. workers are the runners it
    has, by their ids."""

    PROGRAM = "daggyd"

    def __init__(
        self,
        workers: Mapping[str, Runner],
        config: Mapping[str, Any] | None = None,
        properties: Mapping[str, str | Iterable[str]] | None = None,
    ) -> None:
        listed = [{"id": id, "url": worker.url} for id, worker in workers.items()]
        alone = {"workers": listed, "lease_ttl": 3, "lost_after": 3, "sharing": {"enabled": False}}
        super().__init__(alone | dict(config or {}), properties)

    def start(self) -> Queue:
        super().start()
        found = re.findall(r"This queue is \S+:(\d+),", self.journal())  # one of "port_range"
        self.url = f"http://127.0.0.1:{found[-1]}"
        return self

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", 60 * SLOWNESS)
        answer = self.http.request(method, self.url + path, **options)
        if path.startswith(("/api/", "/ui")) or path in ("/", "/ready", "/metrics"):  # the others are Emcee's
            openapi.check(answer, options.get("stream", False), openapi.QUEUE_OPERATIONS)
        return answer

    def discard(self) -> None:
        super().discard()
        run("systemctl", "clean", "--what=all", self.unit, check=False, stderr=subprocess.DEVNULL)

    def workers(self) -> dict[str, dict[str, Any]]:
        return {worker["id"]: worker for worker in self.get("/api/v1/workers").json()}

    def await_leases(self, *ids: str) -> None:
        """Returns when the queue may use these workers, and no others."""
        await_that(
            lambda: {id for id, worker in self.workers().items() if (worker["lease"] or {}).get("own")}
            == set(ids),
            what=f"{self.name} to hold the leases of {ids}: {self.workers()}",
        )

    def await_usable(self, *ids: str) -> None:
        """Returns when a task would be sent to any of these workers: each has been asked who it is since its lease."""
        self.await_leases(*ids)
        await_that(
            lambda: self.get("/api/v1/capacity").json()["workers"] == len(ids), what=f"{self.name} to know {ids}"
        )

    def _needed_units(self) -> list[str]:
        return []

    def _own_folders(self) -> list[str]:
        # Each has a dynamic account of its own, to which systemd gives these folders.
        return [f"StateDirectory={self.name}", f"CacheDirectory={self.name}"]


class ShellRunner(Runner):
    """A daggyr that is no service: root has started it as from a shell. With daemonize by "daggyr -d"."""

    def __init__(self, config: Mapping[str, Any] | None = None, daemonize: bool = False) -> None:
        super().__init__(config)
        self._daemonize = daemonize
        self._pid = 0
        self._stderr = Path("/run/daggyr-test", f"{self.name}.stderr")

    def start(self) -> ShellRunner:
        self.config_file.parent.mkdir(mode=0o755, exist_ok=True)
        self.config_file.write_text(json.dumps(self.config))
        command = ["/usr/bin/daggyr", "--config", str(self.config_file)]
        with self._stderr.open("w") as stderr:
            if self._daemonize:
                run(*command, "-d", stdin=subprocess.DEVNULL, stderr=stderr)
                self._pid = self._find_pid()
            else:
                child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr)
                self._pid = child.pid
                self._child = child
                await_that(self._answers, what=f"an answer of {self.name}: {self.journal()}")
        return self

    def kill9(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self._reap()

    def discard(self) -> None:
        try:
            os.kill(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._reap()
        self.config_file.unlink(missing_ok=True)
        self.http.close()

    @property
    def main_pid(self) -> int:
        return self._pid

    def journal(self) -> str:
        return self._stderr.read_text()

    def _reap(self) -> None:
        if not self._daemonize:
            self._child.wait(timeout=60 * SLOWNESS)
        await_that(lambda: not Path(f"/proc/{self._pid}").exists(), what=f"the end of {self.name}")

    def _find_pid(self) -> int:
        mark = str(self.config_file).encode()
        found = [pid for pid, line in _all_proc_files("cmdline") if mark in line.split(b"\0")]
        assert len(found) == 1, f"processes of {self.name}: {found}"
        return found[0]

    def _answers(self) -> bool:
        try:
            return self.get("/ready").status_code == 200
        except requests.ConnectionError:
            return False
