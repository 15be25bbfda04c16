# SPDX-License-Identifier: LGPL-2.1-or-later
"""How fast tasks are launched, what waits for one, and who uses the CPU meanwhile: beside a bare loop that asks
systemd for scopes, and beside systemd-run."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchlib import COMMAND_SECONDS_MAX, Bed, Row, row

COUNTS = {1: 250, 8: 500, 32: 500}
N_SYSTEMD_RUN = 150
SYSTEMD_RUN_PARALLEL = 8
CPU_IN_FLIGHT = 8
CPU_LEAST_MSEC = 0.02

# Even if nothing of it was seen.
CPU_ALWAYS = {"PID 1", "dbus-daemon", "polkitd", "daggyr", "the whole bed"}


def rows(bed: Bed) -> list[Row]:
    bed.start_daggyr()
    bed.daggyr_tasks(bed.count(20), 1)  # what starts with the first one
    bed.bare_loop(bed.count(20), 1)
    measures: dict[str, Callable[[], dict[str, Any]]] = {}
    for in_flight, count in COUNTS.items():
        n = max(in_flight, bed.count(count))
        measures[f"bare {in_flight}"] = partial(bed.with_cpu, partial(bed.bare_loop, n, in_flight))
        measures[f"daggyr {in_flight}"] = partial(bed.with_cpu, partial(bed.daggyr_tasks, n, in_flight))
    measures["systemd-run"] = partial(_systemd_run, bed.count(N_SYSTEMD_RUN))
    outcomes = bed.in_turns(measures)
    bed.details["launch"] = outcomes
    return _rate_rows(outcomes) + _latency_rows(outcomes) + _cpu_rows(outcomes)


def _systemd_run(count: int) -> dict[str, Any]:
    run = "systemd-run --scope --quiet --collect -p CPUQuota=100% -p MemoryMax=64M /bin/true".split()
    numbers = "\n".join(map(str, range(count)))
    start = time.monotonic()
    subprocess.run(
        ["xargs", "-P", str(SYSTEMD_RUN_PARALLEL), "-I_", *run],
        input=numbers,
        text=True,
        check=True,
        timeout=COMMAND_SECONDS_MAX,
    )
    return {"count": count, "rate": count / (time.monotonic() - start)}


def _each(outcomes: dict[str, list[Any]], name: str, key: str) -> list[float]:
    return [outcome[key] for outcome in outcomes[name]]


def _rate_rows(outcomes: dict[str, list[Any]]) -> list[Row]:
    made = []
    for n in COUNTS:
        rates, bare = (_each(outcomes, f"{who} {n}", "rate") for who in ("daggyr", "bare"))
        made.append(row(f"launch, {n} in flight", "tasks/s", rates, "higher", bare))
    n = SYSTEMD_RUN_PARALLEL
    rates, others = _each(outcomes, f"daggyr {n}", "rate"), _each(outcomes, "systemd-run", "rate")
    return made + [row(f"launch, {n} in flight, beside systemd-run", "tasks/s", rates, "higher", others)]


def _latency_rows(outcomes: dict[str, list[Any]]) -> list[Row]:
    made = []
    for name in ("p50", "p99"):
        own, bare = (_each(outcomes, f"{who} 1", f"{name}_ms") for who in ("daggyr", "bare"))
        made.append(row(f"submit to result, {name}", "ms", own, "lower", bare))
    return made


def _cpu_rows(outcomes: dict[str, list[Any]]) -> list[Row]:
    """CPU time for each task. What the client and the bare loop use themselves is not in the sum."""
    n = CPU_IN_FLIGHT
    own, bare = (_each(outcomes, f"{who} {n}", "cpu") for who in ("daggyr", "bare"))
    for cpu, outcome in zip(own, outcomes[f"daggyr {n}"], strict=True):
        cpu["the whole bed"] -= outcome["own_cpu_ms"] / outcome["count"]
    for cpu, outcome in zip(bare, outcomes[f"bare {n}"], strict=True):
        cpu["the whole bed"] -= outcome["own_cpu_ms"] / outcome["count"]
        cpu["leaders and commands"] = outcome["children_cpu_ms"] / outcome["count"]
    names = {name for cpu in own + bare for name, msec in cpu.items() if msec >= CPU_LEAST_MSEC} | CPU_ALWAYS
    made = []
    for name in sorted(names, key=lambda name: (name == "the whole bed", name)):
        values, references = ([cpu.get(name, 0.0) for cpu in side] for side in (own, bare))
        made.append(row(f"CPU of {name}, {n} in flight", "ms/task", values, "lower", references))
    client = [outcome["own_cpu_ms"] / outcome["count"] for outcome in outcomes[f"daggyr {n}"]]
    return made + [row(f"CPU of the client, {n} in flight", "ms/task", client, "lower")]
