# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a database costs the queue, beside its local file in the same run: to take tasks, and to have them done by
runners that cost nothing, with one member and with clients at each of two."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchlib import Bed, Row, row
from queue_rows import CONFIG, fake_runners, load, metric, queue_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))

from bedlib import Queue, await_that  # noqa: E402
from clusterlib import Cluster, Member  # noqa: E402
from postgreslib import Postgres  # noqa: E402

N_ACCEPTED, N_CYCLES, N_WORKERS = 50_000, 10_000, 100
N_CLIENTS = 4
BATCH = 200
"""Its answer is short enough for a member to pass it on with its length, which the load generator must know."""

Queues = Callable[[dict[str, Any]], "contextlib.AbstractContextManager[list[Queue]]"]


def rows(bed: Bed) -> list[Row]:
    return _rows(bed, "accepted in batches", N_ACCEPTED, _accepted) + _rows(bed, "whole cycles", N_CYCLES, _cycles)


def _rows(bed: Bed, what: str, n: int, measure: Callable[[Bed, Queues, int], float]) -> list[Row]:
    n = max(BATCH, bed.count(n))
    kinds: dict[str, Queues] = {"sqlite": _local}
    kinds |= {"one member": partial(_members, n=1), "two members": partial(_members, n=2)}
    rates = bed.in_turns({name: partial(measure, bed, queues, n) for name, queues in kinds.items()})
    bed.details[f"cluster, {what}"] = rates
    return [
        row(f"{what} with PostgreSQL, {name}", "tasks/s", rates[name], "higher", rates["sqlite"])
        for name in kinds
        if name != "sqlite"
    ]


@contextlib.contextmanager
def _local(workers: dict[str, Any]) -> Iterator[list[Queue]]:
    with queue_of(workers) as queue:
        yield [queue]


@contextlib.contextmanager
def _members(workers: dict[str, Any], n: int) -> Iterator[list[Queue]]:
    """The one that leads first. The server's settings are its own defaults where they cost or gain time."""
    with contextlib.ExitStack() as stack:
        server = Postgres({"shared_buffers": "128MB", "min_wal_size": "80MB"})
        stack.callback(server.discard)
        server.create()
        members = [Member(workers, server.conninfo(), CONFIG) for _ in range(n)]
        for member in members:
            stack.enter_context(member)
            member.http.headers["Connection"] = "close"
        cluster = Cluster(members)
        leader = cluster.await_all()
        leader.await_leases(*workers)
        yield [leader, *cluster.others(leader)]


def _load_all(bed: Bed, queues: list[Queue], n: int) -> None:
    """So many tasks in batches, by clients at all of them."""
    with ThreadPoolExecutor(len(queues)) as pool:
        share = n // len(queues)
        n_clients = N_CLIENTS // len(queues)
        shares = [pool.submit(load, bed, queue, "batch", share, n_clients, batch=BATCH) for queue in queues]
        for one in shares:
            one.result()


def _accepted(bed: Bed, queues_of: Queues, n: int) -> float:
    """Tasks a second that are taken and cannot run yet. What was answered is on disk."""
    with fake_runners(bed, 1) as workers, queues_of(workers) as queues:
        queues[0].put("/api/v1/workers/w0000", json={"disabled": True})
        _load_all(bed, queues, BATCH)
        begin = time.monotonic()
        _load_all(bed, queues, n)
        return n / (time.monotonic() - begin)


def _cycles(bed: Bed, queues_of: Queues, n: int) -> float:
    """Whole cycles a second: submitted, run, fetched, on disk, forgotten."""

    def await_finished(count: int) -> None:
        await_that(lambda: metric(queues[0], "daggyd_tasks_finished_total") >= count, 300, f"{count} tasks to end")

    with fake_runners(bed, N_WORKERS) as workers, queues_of(workers) as queues:
        _load_all(bed, queues, BATCH)
        await_finished(BATCH)
        begin = time.monotonic()
        _load_all(bed, queues, n)
        await_finished(BATCH + n)
        return n / (time.monotonic() - begin)
