# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the rows of ./dev bench stand on: the bed with daggyr in it as a user gets it, tools that cost little,
and measurements in turns, so that whatever else the machine does hits both sides of a ratio."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypedDict

BARE_SLICE = "bench.slice"
TASK_SLICE = "daggyr.slice"
PORT = 2504
CONFIG_FILE = Path("/etc/daggyr/daggyr.json")
CGROUP_TOP = Path("/sys/fs/cgroup")

ROOMY = {"capacity_overrides": {"cores": 64, "memory_mb": 1 << 20}}
"""Capacity is not what is measured: as many tasks as a row has in flight must fit."""

QUIET_SECONDS_MAX = 20
COMMAND_SECONDS_MAX = 300


class Goal(NamedTuple):
    """of says whether the row's ratio (to its reference) or its value must reach the limit: the least it may
    be when higher is better, the most otherwise."""

    limit: float
    of: str = "ratio"


class Row(TypedDict, total=False):
    """One line of the table. The reference is the same measure of what the row is compared with; the ratio is
    the median of the rounds' ratios, not the ratio of the medians."""

    name: str
    value: float
    unit: str
    reference: float | None
    ratio: float | None
    better: str  # "higher" or "lower"; of what the goal is judged by
    goal: float | None  # filled in from goals.py


def row(
    name: str,
    unit: str,
    values: Iterable[float],
    better: str,
    beside: Iterable[float] | None = None,
) -> Row:
    """The row of a measure that has a value for each round, and with beside another for the reference."""
    values = list(values)
    made = Row(name=name, unit=unit, value=median(values), better=better, reference=None, ratio=None)
    if beside is not None:
        beside = list(beside)
        made["reference"] = median(beside)
        pairs = [value / reference for value, reference in zip(values, beside, strict=True) if reference > 0]
        made["ratio"] = median(pairs) if pairs else None
    return made


class Cpu:
    """A reading of what every process of the bed has used, in milliseconds, and of the bed altogether."""

    def __init__(self) -> None:
        self.by_process: dict[int, tuple[str, float]] = {}
        self.of_leaders = 0.0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                self._read(folder)
            except (FileNotFoundError, ProcessLookupError):  # gone meanwhile
                pass
        self.of_bed = _bed_cpu_msec()

    def _read(self, folder: Path) -> None:
        name = (folder / "comm").read_text().strip()
        threads = (folder / "task").iterdir()
        nsec = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
        self.by_process[int(folder.name)] = ("PID 1" if folder.name == "1" else name, nsec / 1e6)
        if name == "daggyr-spawner":
            # Of the children it has reaped, and of what those had reaped: leaders and commands.
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            ticks = int(fields[13]) + int(fields[14])
            self.of_leaders += ticks * 1000 / os.sysconf("SC_CLK_TCK")

    def since(self, before: Cpu) -> dict[str, float]:
        """What each name has used since, with "leaders and commands" and "the whole bed" besides."""
        used: dict[str, float] = defaultdict(float)
        for pid, (name, msec) in self.by_process.items():
            earlier = before.by_process.get(pid, (name, 0.0))
            used[name] += msec - (earlier[1] if earlier[0] == name else 0.0)
        used["leaders and commands"] = self.of_leaders - before.of_leaders
        used["the whole bed"] = self.of_bed - before.of_bed
        return used


def _join_the_bed() -> None:
    """What comes in from outside is in the bed's cgroups only as far as systemd manages them."""
    for hierarchy in ("cpu", "cpuacct"):
        try:
            (CGROUP_TOP / hierarchy / "cgroup.procs").write_text(str(os.getpid()))
        except FileNotFoundError:  # cgroups v2, where systemd manages all
            pass


def _come_first() -> None:
    """Gives the bed's cgroup most of the machine's CPU time, whatever else runs there; where it may."""
    for file, weight in ("cpu/cpu.shares", 262144), ("cpu.weight", 10000):
        try:
            (CGROUP_TOP / file).write_text(str(weight))
        except OSError:
            pass


def _bed_cpu_msec() -> float:
    v1 = CGROUP_TOP / "cpuacct/cpuacct.usage"
    if v1.exists():
        return int(v1.read_text()) / 1e6
    lines = (CGROUP_TOP / "cpu.stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec ")) / 1e3


class Bed:
    """The bed that this process runs in. rounds is how often each measure is taken, scale what the counts of a
    row are multiplied by."""

    def __init__(self, tools: Path, rounds: int, scale: float = 1.0) -> None:
        self.tools = tools
        self.rounds = rounds
        self.scale = scale
        self.details: dict[str, Any] = {}
        self._n_runs = 0
        _join_the_bed()
        _come_first()

    def count(self, n: int) -> int:
        return max(1, round(n * self.scale))

    def start_daggyr(self, config: Mapping[str, Any] = ROOMY) -> None:
        """daggyr as it is installed, freshly started; only how much fits is ours."""
        CONFIG_FILE.parent.mkdir(exist_ok=True)
        CONFIG_FILE.write_text(json.dumps(config))
        units = ("daggyr.socket", "daggyr.service")
        command("systemctl", "stop", *units)
        command("systemctl", "start", *units)

    def daggyr_pid(self) -> int:
        return int(command("systemctl", "show", "--value", "--property=MainPID", "daggyr.service"))

    def tool(self, name: str, *arguments: object) -> dict[str, Any]:
        """Runs one of the programs beside this file; they print JSON."""
        return json.loads(command(str(self.tools / name), *map(str, arguments)))

    def bare_loop(self, count: int, in_flight: int) -> dict[str, Any]:
        return self.tool("bare-loop", count, in_flight, BARE_SLICE)

    def daggyr_tasks(self, count: int, in_flight: int, **fields: Any) -> dict[str, Any]:
        """Tasks of daggyr, each submitted when an earlier one's end was heard."""
        self._n_runs += 1
        body = {"command": ["/bin/true"], "resources": {"cores": 1, "memory_mb": 64}} | fields
        prefix = f"bench-{os.getpid()}-{self._n_runs}-"
        return self.tool("http-load", PORT, "tasks", prefix, count, in_flight, json.dumps(body))

    def in_turns(self, measures: Mapping[str, Callable[[], Any]]) -> dict[str, list[Any]]:
        """A B C, A B C, …: what each measure returned in each round, by its name."""
        outcomes: dict[str, list[Any]] = {name: [] for name in measures}
        for _ in range(self.rounds):
            for name, measure in measures.items():
                self.await_quiet()
                outcomes[name].append(measure())
        return outcomes

    def with_cpu(self, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The outcome of a measure, with the CPU time by process for each of its "count" as "cpu"; what systemd
        has to do afterwards counts as well."""
        before = Cpu()
        outcome = measure()
        self.await_quiet()
        used = Cpu().since(before)
        outcome["cpu"] = {name: msec / outcome["count"] for name, msec in used.items()}
        return outcome

    def await_quiet(self) -> None:
        """Returns when systemd has removed the last scope and has nothing to do any more."""
        deadline = time.monotonic() + QUIET_SECONDS_MAX
        while time.monotonic() < deadline:
            before = _pid1_cpu_nsec()
            time.sleep(0.03)
            if not _scopes_left() and _pid1_cpu_nsec() - before < 300_000:
                return
        raise RuntimeError(f"systemd was still busy after {QUIET_SECONDS_MAX} s")


def _pid1_cpu_nsec() -> int:
    return int(Path("/proc/1/schedstat").read_text().split()[0])


def _scopes_left() -> bool:
    top = CGROUP_TOP / "systemd"
    top = top if top.exists() else CGROUP_TOP
    return any(any((top / name).glob("*.scope")) for name in (BARE_SLICE, TASK_SLICE))


def command(*arguments: str, **options: Any) -> str:
    """Runs a command to its end and returns its stdout."""
    done = subprocess.run(
        arguments, text=True, stdout=subprocess.PIPE, check=True, timeout=COMMAND_SECONDS_MAX, **options
    )
    return done.stdout
