# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the queue costs, as rows of figures.

    ./dev boot --install build -- /usr/bin/python3 tests/bench/queue_rows.py [--scale N] [PART…]

runs it alone; a part is the name of a function below without "_rows". The programs beside this file are
taken from build/tests/bench, or from where DAGGYR_BENCH_TOOLS points to. A row is a dictionary: name,
value, unit, reference (the name of the row that it is compared with, or None), ratio (to that), goal,
better ("higher" or "lower").
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tests/system"))

from bedlib import Queue, Runner, await_that  # noqa: E402

TOOLS = Path(os.environ.get("DAGGYR_BENCH_TOOLS", PROJECT / "build/tests/bench"))

Row = dict[str, Any]

SMALL = '"command":["/bin/true"],"resources":{"cores":0.01,"memory_mb":1}'
"""Of which a fake runner, which has 64 cores, takes any number at once."""

FAKE_FIRST_PORT = 20000
IN_FLIGHT = 8

_prefixes = (f"b{n}." for n in itertools.count())


def row(
    name: str,
    value: float,
    unit: str,
    better: str = "higher",
    goal: float | None = None,
    reference: Row | None = None,
) -> Row:
    """A goal is of the ratio where there is a reference, and of the value otherwise."""
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "reference": reference["name"] if reference else None,
        "ratio": value / reference["value"] if reference else None,
        "goal": goal,
        "better": better,
    }


def tool(name: str, *arguments: object) -> Any:
    """What a program beside this file prints, which is JSON."""
    command = [TOOLS / name, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    return json.loads(done.stdout)


def load(server: Runner, mode: str, n: int, n_clients: int, fields: str = SMALL, *size: int) -> Any:
    port = server.url.rsplit(":", 1)[1]
    return tool("queue-load", port, mode, next(_prefixes), n, n_clients, fields, *size)


class Fake:
    """What a Queue wants to know of one of the runners of fake-runners."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def fake_runners(n: int) -> Iterator[dict[str, Fake]]:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    command = [TOOLS / "fake-runners", str(FAKE_FIRST_PORT), str(n)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n"
        yield {f"w{i:04}": Fake(FAKE_FIRST_PORT + i) for i in range(n)}
        process.stdin.close()


@contextlib.contextmanager
def queue_of(workers: dict[str, Any], n_waiting: int = 1_000_000) -> Iterator[Queue]:
    config = {"lease_ttl": 30, "lost_after": 30, "queue_max": n_waiting, "results_max": 10000}
    with Queue(workers, config) as queue:
        queue.http.headers["Connection"] = "close"
        yield queue


def await_all_leases(queue: Queue) -> None:
    def all_leased() -> bool:
        return all((worker["lease"] or {}).get("own") for worker in queue.workers().values())

    await_that(all_leased, 120, "the queue to have its workers")


def metric(server: Runner, name: str, label: str = "") -> int:
    """The sum of a metric's values, of those whose labels contain LABEL."""
    lines = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", server.get("/metrics").text, re.MULTILINE)
    return sum(int(float(value)) for labels, value in lines if label in labels)


def cpu_seconds(server: Runner) -> float:
    fields = Path(f"/proc/{server.main_pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(server: Runner, name: str = "VmRSS") -> int:
    status = Path(f"/proc/{server.main_pid}/status").read_text()
    return 1024 * int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1])


def accepted_rows(scale: float) -> list[Row]:
    """How fast tasks are taken that cannot run yet. What was answered is on disk."""
    rows = []
    with fake_runners(1) as workers, queue_of(workers) as queue:
        await_all_leases(queue)
        queue.put("/api/v1/workers/w0000", json={"disabled": True})
        for n_clients, goal in ((1, 5000), (32, 5000)):
            n = int(100_000 * scale)
            took = load(queue, "batch", n, n_clients, SMALL, 1000)["seconds"]
            rows.append(row(f"accepted in batches, {n_clients} clients", n / took, "tasks/s", goal=goal))
        for n_clients, n, goal in ((1, 2000, None), (32, 20_000, 1500)):
            n = int(n * scale)
            took = load(queue, "submit", n, n_clients)["seconds"]
            rows.append(row(f"accepted one by one, {n_clients} clients", n / took, "tasks/s", goal=goal))
    return rows


def real_rows(scale: float) -> list[Row]:
    """Whole cycles of /bin/true, through the queue and by its only runner alone."""
    config = {"capacity_overrides": {"cores": IN_FLIGHT, "memory_mb": 65536}, "results_max": 100_000}
    task = '"command":["/bin/true"],"resources":{"cores":1,"memory_mb":64}'
    n, n_single = int(1000 * scale), int(200 * scale)
    with Runner(config) as runner:
        load(runner, "cycle", 100, IN_FLIGHT, task)
        took = load(runner, "cycle", n, IN_FLIGHT, task)["seconds"]
        alone = row(f"/bin/true by the runner alone, {IN_FLIGHT} in flight", n / took, "tasks/s")
        single = load(runner, "cycle", n_single, 1, task)["median_usec"]
        alone_single = row("/bin/true by the runner alone, one at a time", single / 1000, "ms", "lower")
        with queue_of({"w": runner}) as queue:
            await_all_leases(queue)
            load(queue, "cycle", 50, IN_FLIGHT, task)
            submitted, refused = metric(queue, "daggyd_submissions_total"), n_refused(queue)
            cpu = cpu_seconds(queue)
            took = load(queue, "cycle", n, IN_FLIGHT, task)["seconds"]
            cpu = cpu_seconds(queue) - cpu
            submitted = metric(queue, "daggyd_submissions_total") - submitted
            refused = n_refused(queue) - refused
            through = row(
                f"/bin/true through daggyd, {IN_FLIGHT} in flight", n / took, "tasks/s", "higher", 0.85, alone
            )
            single = load(queue, "cycle", n_single, 1, task)["median_usec"]
            through_single = row(
                "/bin/true through daggyd, one at a time", single / 1000, "ms", "lower", 1.5, alone_single
            )
            return [
                alone,
                through,
                row("submissions refused meanwhile", 100 * refused / submitted, "%", "lower", 1),
                row("CPU of daggyd meanwhile", 1000 * cpu / n, "ms/task", "lower"),
                alone_single,
                through_single,
            ]


def n_refused(queue: Queue) -> int:
    return metric(queue, "daggyd_submissions_total") - metric(queue, "daggyd_submissions_total", "accepted")


def fake_cycles(n_workers: int, n: int) -> tuple[float, float, float]:
    """Whole cycles a second, daggyd's CPU in seconds for each, and what its memory grew by, in bytes."""
    with fake_runners(n_workers) as workers, queue_of(workers) as queue:
        await_all_leases(queue)
        load(queue, "batch", n // 10, 1, SMALL, 1000)
        await_that(lambda: metric(queue, "daggyd_tasks_finished_total") >= n // 10, 300, "the first tasks")
        cpu, memory = cpu_seconds(queue), memory_bytes(queue)
        begin = time.monotonic()
        load(queue, "batch", n, 1, SMALL, 1000)
        await_that(
            lambda: metric(queue, "daggyd_tasks_finished_total") >= n // 10 + n, 600, "all tasks to be through"
        )
        took = time.monotonic() - begin
        cpu = cpu_seconds(queue) - cpu
        return n / took, cpu / n, (memory_bytes(queue, "VmHWM") - memory) / n


def fake_rows(scale: float) -> list[Row]:
    """Whole cycles against runners that cost nothing: submitted, run, fetched, on disk, forgotten."""
    rows: list[Row] = []
    for n_workers in (100, 1000):
        rate, cpu, memory = fake_cycles(n_workers, max(1000, int(5000 * scale)))
        goal, reference = (1500, None) if not rows else (0.8, rows[0])
        rows += [
            row(f"whole cycles at {n_workers} fake runners", rate, "tasks/s", "higher", goal, reference),
            row(f"CPU of daggyd at {n_workers} fake runners", 1e6 * cpu, "us/task", "lower"),
            row(f"CPU load of daggyd at {n_workers} fake runners", rate * cpu, "cores", "lower", 1),
            row(f"memory of daggyd at {n_workers} fake runners", memory, "bytes/task", "lower"),
        ]
    return rows


def placement_rows(scale: float) -> list[Row]:
    """Placing and ending in a mixed fleet."""
    rows = []
    for n_workers, goal in ((10_000, 50), (100_000, 1000)):
        figures = tool("bench-placement", n_workers, max(1000, int(5000 * scale)))
        for which in ("median", "p99"):
            name = f"placement among {n_workers} workers, {which}"
            rows.append(row(name, figures[f"{which}_usec"], "us", "lower", goal))
    return rows


def waiting_rows(scale: float) -> list[Row]:
    """A long queue: what it takes of memory, and how long until a new start of daggyd serves it."""
    n = int(1_000_000 * scale)
    with fake_runners(1) as workers, queue_of(workers, 2 * n) as queue:
        await_all_leases(queue)
        queue.put("/api/v1/workers/w0000", json={"disabled": True})
        load(queue, "batch", 2000, 1, SMALL, 1000)
        memory = memory_bytes(queue)
        load(queue, "batch", n, 4, SMALL, 1000)
        per_task = (memory_bytes(queue) - memory) / n
        queue.stop()
        begin = time.monotonic()
        queue.start()
        took = time.monotonic() - begin
        return [
            row(f"memory of {n} waiting tasks", per_task, "bytes/task", "lower"),
            row(f"start with {n} waiting tasks", took, "s", "lower"),
        ]


PARTS: dict[str, Callable[[float], list[Row]]] = {
    "placement": placement_rows,
    "accepted": accepted_rows,
    "real": real_rows,
    "fake": fake_rows,
    "waiting": waiting_rows,
}


def rows(bed: object = None, scale: float = 1) -> list[Row]:
    """All of them. BED is the one that this runs in, and not used."""
    return [row for part in PARTS.values() for row in part(scale)]


def show(rows: list[Row]) -> None:
    for row in rows:
        ratio = f"  {row['ratio']:.2f} of: {row['reference']}" if row["reference"] else ""
        goal = f"  goal {'≥' if row['better'] == 'higher' else '≤'} {row['goal']:g}" if row["goal"] else ""
        print(f"{row['name']:<50} {row['value']:>12.1f} {row['unit']:<10}{ratio}{goal}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1, help="of all numbers of tasks")
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="default: all")
    options = parser.parse_args()
    for part in options.part or PARTS:
        show(PARTS[part](options.scale))


if __name__ == "__main__":
    main()
