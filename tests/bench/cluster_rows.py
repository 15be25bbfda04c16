# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a database costs the queue, beside its local file in the same run: to take tasks, and to have them done by
runners that cost nothing, with one member and with clients at each of two. And whether that stays so when very many
tasks are there."""

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
from queue_rows import CONFIG, FAKE_FIRST_PORT, fake_runners, load, memory_bytes, metric, queue_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))

from bedlib import Queue, await_that  # noqa: E402
from clusterlib import Cluster, Member  # noqa: E402
from postgreslib import Postgres  # noqa: E402

N_ACCEPTED, N_CYCLES, N_WORKERS = 50_000, 10_000, 100
N_STORED, N_FEW, N_BESIDE = 1_000_000, 1000, 10_000
N_CLIENTS = 4
BATCH = 200
"""Its answer is short enough for a member to pass it on with its length, which the load generator must know."""

HELD, DONE = "bench-held", "bench-done"
COPIES_AT_ONCE = 100_000
COPIES = (
    "INSERT INTO tasks SELECT {first} + g, task_id || '-' || g, state, priority, retries, losses, stop_requested,"
    " submit_usec, queue_usec, not_before_usec, finish_usec, replace(result, task_id, task_id || '-' || g)"
    " FROM tasks, {range} WHERE task_id = '{id}'",
    "INSERT INTO specs SELECT {first} + g, {spec} FROM specs, {range} WHERE seq = {seq}",
    "INSERT INTO labels SELECT label, {first} + g FROM labels, {range} WHERE seq = {seq}",
    "INSERT INTO attempts SELECT {first} + g, number, state, worker_id, replace(runner_task_id, '{id}', '{id}-' || g),"
    " runner_instance, place_usec, finish_usec, unanswered, attempt FROM attempts, {range} WHERE seq = {seq}",
    "INSERT INTO outputs SELECT {first} + g, number, stream, position, bytes FROM outputs, {range} WHERE seq = {seq}",
)
"""Of one task, as the queue itself has stored it; the numbers are free, and not those of the next tasks."""

Queues = Callable[[dict[str, Any]], "contextlib.AbstractContextManager[list[Queue]]"]


def rows(bed: Bed) -> list[Row]:
    made = _rows(bed, "accepted in batches", N_ACCEPTED, _accepted) + _rows(bed, "whole cycles", N_CYCLES, _cycles)
    return made + _stored_rows(bed)


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
def _server() -> Iterator[Postgres]:
    """Its settings are its own defaults where they cost or gain time."""
    server = Postgres({"shared_buffers": "128MB", "min_wal_size": "80MB", "max_wal_size": "1GB"})
    try:
        yield server.create()
    finally:
        server.discard()


@contextlib.contextmanager
def _members(workers: dict[str, Any], n: int) -> Iterator[list[Queue]]:
    """The one that leads first."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_server())
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


class _Stored:
    """A member over a server of its own with so many tasks that wait, and as many that have finished: all the results
    that it may keep, so that each new one has an old one go. What waits came before all that is measured, and is too
    large for the workers."""

    def __init__(self, bed: Bed, stack: contextlib.ExitStack, n: int, first_port: int) -> None:
        self._bed, self._n = bed, n
        self._server = stack.enter_context(_server())
        self._workers = stack.enter_context(fake_runners(bed, N_WORKERS, first_port))
        config = CONFIG | {"results_max": n}
        members = [Member(self._workers, self._server.conninfo(), config) for _ in range(2)]
        self._leader, self._other = members
        self._serve(stack.enter_context(self._leader))
        self.details: dict[str, float] = {"tasks": n}
        self._leader.await_leases(*self._workers)
        self._fill()
        self._start()
        stack.callback(self._other.discard)

    def _serve(self, member: Member) -> None:
        """Returns when it answers for the tasks."""
        member.http.headers["Connection"] = "close"
        await_that(lambda: member.status(path="/api/v1/tasks?limit=1") == 200, 300, f"{member.name} to serve")

    def _fill(self) -> None:
        """Without clients: it would take as long as all the rest."""
        fields = {"command": ["/bin/true"], "labels": {"bench": "row"}}
        done = fields | {"resources": {"cores": 1, "memory_mb": 64}}
        self._leader.request("POST", f"/api/v1/task/{DONE}", json=done)
        self._leader.get(f"/api/v1/task/{DONE}?wait=30")
        self._set_disabled(True)
        held = fields | {"resources": {"cores": 63, "memory_mb": 64}}
        self._leader.request("POST", f"/api/v1/task/{HELD}", json=held)
        self._leader.stop()
        self._copy(HELD, 10_000_000, "replace(spec, '63', '65')", "waiting")
        self._copy(DONE, 20_000_000, "spec", "finished")
        self._server.sql("SELECT setval('task_ranges', 10000)")  # of 10,000 numbers each
        self._server.sql("VACUUM ANALYZE")  # as the server would have done by the time that so many are there

    def _copy(self, id: str, first: int, spec: str, what: str) -> None:
        size = self._size()
        seq = self._server.sql(f"SELECT seq FROM tasks WHERE task_id = '{id}'")
        for begin in range(1, self._n + 1, COPIES_AT_ONCE):
            end = min(begin + COPIES_AT_ONCE - 1, self._n)
            for text in COPIES:
                rows = f"generate_series({begin}, {end}) g"
                self._server.sql(text.format(first=first, range=rows, id=id, seq=seq, spec=spec))
        self.details[f"bytes of a {what} task in the database"] = (self._size() - size) / self._n

    def _size(self) -> int:
        """Of all tables and indexes."""
        return int(self._server.sql("SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables"))

    def _start(self) -> None:
        begin = time.monotonic()
        self._leader.start()
        self._serve(self._leader)
        self.details["seconds to start"] = time.monotonic() - begin
        self.details["bytes of memory"] = memory_bytes(self._leader)

    def _set_disabled(self, disabled: bool) -> None:
        for id in self._workers:
            self._leader.put(f"/api/v1/workers/{id}", json={"disabled": disabled})
        self._leader.await_leases(*([] if disabled else self._workers))

    def rates(self, n: int) -> dict[str, float]:
        """Tasks a second that are accepted while none may run, and of whole cycles."""
        self._set_disabled(True)
        finished = self._n_finished()
        begin = time.monotonic()
        self._load(n)
        accepted = time.monotonic() - begin
        self._set_disabled(False)
        self._await_finished(finished + n)
        begin = time.monotonic()
        self._load(n)
        self._await_finished(finished + 2 * n)
        return {"accepted in batches": n / accepted, "whole cycles": n / (time.monotonic() - begin)}

    def _load(self, n: int) -> None:
        _load_all(self._bed, [self._leader], n)

    def _n_finished(self) -> int:
        return metric(self._leader, "daggyd_tasks_finished_total")

    def _await_finished(self, count: int) -> None:
        await_that(lambda: self._n_finished() >= count, 300, f"{count} tasks to end")

    def take_over(self) -> None:
        """The one that leads breaks down beside another that is alive."""
        self._other.start()
        self._other.http.headers["Connection"] = "close"
        cluster = Cluster([self._leader, self._other])
        cluster.await_all()
        begin = time.monotonic()
        self._leader.kill9()
        cluster.await_leader(120, other_than=self._leader)
        self.details["seconds until another leads"] = time.monotonic() - begin
        self._serve(self._other)
        self.details["seconds until another serves"] = time.monotonic() - begin
        self.details["bytes of memory of the other"] = memory_bytes(self._other)


def _stored_rows(bed: Bed) -> list[Row]:
    """The same rates with very many tasks beside those with few."""
    n = max(BATCH, bed.count(N_BESIDE))
    kinds = {"few": min(N_FEW, bed.count(N_STORED)), "many": bed.count(N_STORED)}
    with contextlib.ExitStack() as stack:
        stored = {
            kind: _Stored(bed, stack, n_stored, FAKE_FIRST_PORT + i * N_WORKERS)
            for i, (kind, n_stored) in enumerate(kinds.items())
        }
        outcomes = bed.in_turns({kind: partial(one.rates, n) for kind, one in stored.items()})
        for one in stored.values():
            one.take_over()
    for kind, one in stored.items():
        bed.details[f"cluster, {kind}"] = {"rates": outcomes[kind]} | one.details
    return [
        row(
            f"{what} with PostgreSQL, a million waiting and finished",
            "tasks/s",
            [outcome[what] for outcome in outcomes["many"]],
            "higher",
            [outcome[what] for outcome in outcomes["few"]],
        )
        for what in ("accepted in batches", "whole cycles")
    ]
