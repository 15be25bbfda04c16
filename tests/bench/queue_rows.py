# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the queue costs: to take tasks, to have them done by a runner beside that runner alone, to have them done by
many runners, to place one among very many, and to keep a million."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchlib import Bed, Row, row

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))

from bedlib import Queue, Runner, await_that  # noqa: E402

SMALL = '"command":["/bin/true"],"resources":{"cores":0.01,"memory_mb":1}'
"""Of which a fake runner, which has 64 cores, takes any number at once."""
TRUE = '"command":["/bin/true"],"resources":{"cores":1,"memory_mb":64}'

FAKE_FIRST_PORT = 20000
IN_FLIGHT = 8
BATCH = 1000
N_BATCHED, N_SINGLE = 50_000, {1: 1000, 32: 10_000}
N_CYCLES, N_LONE_CYCLES, N_FAKE_CYCLES = 1000, 200, 10_000
N_PLACED, N_WAITING = 5000, 1_000_000
CONFIG = {"lease_ttl": 30, "lost_after": 30, "queue_max": 2 * N_WAITING, "results_max": 10000}

_prefixes = (f"b{n}." for n in itertools.count())


def rows(bed: Bed) -> list[Row]:
    return _placement_rows(bed) + _accepted_rows(bed) + _real_rows(bed) + _fake_rows(bed) + _waiting_rows(bed)


def load(
    bed: Bed, server: Runner, mode: str, n: int, n_clients: int, fields: str = SMALL, batch: int = BATCH
) -> dict[str, Any]:
    port = server.url.rsplit(":", 1)[1]
    size = [min(n, batch)] if mode == "batch" else []
    return bed.tool("queue-load", port, mode, next(_prefixes), n, n_clients, fields, *size)


class _Fake:
    """What a Queue wants to know of one of the runners of fake-runners."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def fake_runners(bed: Bed, n: int, first_port: int = FAKE_FIRST_PORT) -> Iterator[dict[str, _Fake]]:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    command = [bed.tools / "fake-runners", str(first_port), str(n)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n"
        yield {f"w{i:04}": _Fake(first_port + i) for i in range(n)}
        process.stdin.close()


@contextlib.contextmanager
def queue_of(workers: dict[str, Any]) -> Iterator[Queue]:
    with Queue(workers, CONFIG) as queue:
        queue.http.headers["Connection"] = "close"
        await_that(
            lambda: all((worker["lease"] or {}).get("own") for worker in queue.workers().values()),
            120,
            "the queue to have its workers",
        )
        yield queue


def metric(server: Runner, name: str, label: str = "") -> int:
    """The sum of a metric's values, of those whose labels contain LABEL."""
    lines = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", server.get("/metrics").text, re.MULTILINE)
    return sum(int(float(value)) for labels, value in lines if label in labels)


def _cpu_seconds(server: Runner) -> float:
    fields = Path(f"/proc/{server.main_pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(server: Runner, name: str = "VmRSS") -> int:
    status = Path(f"/proc/{server.main_pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found
    return 1024 * int(found[1])


def _placement_rows(bed: Bed) -> list[Row]:
    """Placing and ending in a mixed fleet."""
    made = []
    for n_workers in (10_000, 100_000):
        outcomes = [
            bed.tool("bench-placement", n_workers, max(100, bed.count(N_PLACED))) for _ in range(bed.rounds)
        ]
        for which in ("median", "p99"):
            values = [outcome[f"{which}_usec"] for outcome in outcomes]
            made.append(row(f"placement among {n_workers} workers, {which}", "us", values, "lower"))
    return made


def _accepted_rows(bed: Bed) -> list[Row]:
    """How fast tasks are taken that cannot run yet. What was answered is on disk."""
    made = []
    with fake_runners(bed, 1) as workers, queue_of(workers) as queue:
        queue.put("/api/v1/workers/w0000", json={"disabled": True})
        for n_clients, n_single in N_SINGLE.items():
            for mode, how, n in ("batch", "in batches", N_BATCHED), ("submit", "one by one", n_single):
                n = bed.count(n)
                rates = [n / load(bed, queue, mode, n, n_clients)["seconds"] for _ in range(bed.rounds)]
                made.append(row(f"accepted {how}, {n_clients} in flight", "tasks/s", rates, "higher"))
    return made


def _real_rows(bed: Bed) -> list[Row]:
    """Whole cycles of /bin/true by a runner alone, and through the queue by another that is like it."""
    config = {"capacity_overrides": {"cores": IN_FLIGHT, "memory_mb": 65536}, "results_max": 100_000}
    n, n_lone = bed.count(N_CYCLES), bed.count(N_LONE_CYCLES)
    with Runner(config) as alone, Runner(config) as worker, queue_of({"w": worker}) as queue:
        for server in alone, queue:
            load(bed, server, "cycle", bed.count(50), IN_FLIGHT, TRUE)
        submitted, refused = metric(queue, "daggyd_submissions_total"), _n_refused(queue)
        outcomes = bed.in_turns(
            {
                "alone": partial(load, bed, alone, "cycle", n, IN_FLIGHT, TRUE),
                "through": partial(_with_cpu, bed, queue, n),
                "alone, one": partial(load, bed, alone, "cycle", n_lone, 1, TRUE),
                "through, one": partial(load, bed, queue, "cycle", n_lone, 1, TRUE),
            }
        )
        submitted = metric(queue, "daggyd_submissions_total") - submitted
        refused = _n_refused(queue) - refused
    bed.details["queue, real"] = outcomes
    rates = {name: [n / outcome["seconds"] for outcome in outcomes[name]] for name in ("alone", "through")}
    lone = {
        name: [outcome["median_usec"] / 1000 for outcome in outcomes[f"{name}, one"]]
        for name in ("alone", "through")
    }
    cpu = [outcome["cpu_msec"] for outcome in outcomes["through"]]
    return [
        row(f"through the queue, {IN_FLIGHT} in flight", "tasks/s", rates["through"], "higher", rates["alone"]),
        row("through the queue, submit to result", "ms", lone["through"], "lower", lone["alone"]),
        row("submissions that the runner refused", "%", [100 * refused / submitted], "lower"),
        row("CPU of daggyd meanwhile", "ms/task", cpu, "lower"),
    ]


def _with_cpu(bed: Bed, queue: Queue, n: int) -> dict[str, Any]:
    before = _cpu_seconds(queue)
    outcome = load(bed, queue, "cycle", n, IN_FLIGHT, TRUE)
    return outcome | {"cpu_msec": 1000 * (_cpu_seconds(queue) - before) / n}


def _n_refused(queue: Queue) -> int:
    return metric(queue, "daggyd_submissions_total") - metric(queue, "daggyd_submissions_total", "accepted")


def _fake_rows(bed: Bed) -> list[Row]:
    """Whole cycles against runners that cost nothing: submitted, run, fetched, on disk, forgotten."""
    n = max(BATCH, bed.count(N_FAKE_CYCLES))
    outcomes = bed.in_turns({str(n_workers): partial(_fake_cycles, bed, n_workers, n) for n_workers in (100, 1000)})
    bed.details["queue, fake"] = outcomes
    made = []
    for n_workers in outcomes:
        rates, cpu, memory = ([outcome[i] for outcome in outcomes[n_workers]] for i in range(3))
        beside = [outcome[0] for outcome in outcomes["100"]] if n_workers != "100" else None
        loads = [rate * seconds for rate, seconds in zip(rates, cpu, strict=True)]
        made += [
            row(f"whole cycles at {n_workers} fake runners", "tasks/s", rates, "higher", beside),
            row(f"CPU load of daggyd at {n_workers} fake runners", "cores", loads, "lower"),
            row(f"memory of daggyd at {n_workers} fake runners", "bytes/task", memory, "lower"),
        ]
    return made


def _fake_cycles(bed: Bed, n_workers: int, n: int) -> tuple[float, float, float]:
    """Whole cycles a second, daggyd's CPU in seconds for each, and what its memory grew by, in bytes."""

    def await_finished(count: int) -> None:
        await_that(lambda: metric(queue, "daggyd_tasks_finished_total") >= count, 300, f"{count} tasks to end")

    with fake_runners(bed, n_workers) as workers, queue_of(workers) as queue:
        load(bed, queue, "batch", BATCH, 1)
        await_finished(BATCH)
        cpu, memory = _cpu_seconds(queue), memory_bytes(queue)
        begin = time.monotonic()
        load(bed, queue, "batch", n, 1)
        await_finished(BATCH + n)
        took = time.monotonic() - begin
        return n / took, (_cpu_seconds(queue) - cpu) / n, (memory_bytes(queue, "VmHWM") - memory) / n


def _waiting_rows(bed: Bed) -> list[Row]:
    """A long queue: what it takes of memory, and how long until a new start of daggyd serves it."""
    n = bed.count(N_WAITING)
    with fake_runners(bed, 1) as workers, queue_of(workers) as queue:
        queue.put("/api/v1/workers/w0000", json={"disabled": True})
        load(bed, queue, "batch", BATCH, 1)
        memory = memory_bytes(queue)
        load(bed, queue, "batch", n, 4)
        per_task = (memory_bytes(queue) - memory) / n
        queue.stop()
        begin = time.monotonic()
        queue.start()
        took = time.monotonic() - begin
    return [
        row(f"memory of each of {n} waiting tasks", "bytes", [per_task], "lower"),
        row(f"start with {n} waiting tasks", "s", [took], "lower"),
    ]
