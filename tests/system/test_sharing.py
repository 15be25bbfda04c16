# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several queues, the same runners."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

from bedlib import SLOWNESS, Queue, Runner, _worker, await_that

Starter = Callable[..., Any]

ROOM = {"capacity_overrides": {"cores": 4, "memory_mb": 8192}}

_ranges = itertools.count(41000 + 100 * int(re.sub(r"\D", "", _worker) or 9), 10)


def sharing_config(**more: Any) -> dict[str, Any]:
    """What queues that are to find each other have in common; no other test's queues are in it."""
    first = next(_ranges)
    ports = {"from": first, "to": first + 9}
    return {
        "port_range": ports,
        "sharing": {"hosts": ["127.0.0.1"], "port_range": ports, "poll_interval": 0.5, "cache_ttl": 1},
    } | more


def leased(queue: Queue) -> set[str]:
    return {id for id, worker in queue.workers().items() if (worker["lease"] or {}).get("own")}


def test_two_queues_split_four_workers(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: two versions of the queue during an upgrade would fight over the workers."""
    workers = {f"w{i}": start_runner(ROOM) for i in range(4)}
    config = sharing_config()
    queues = [start_queue(workers, config | {"version": f"1.{i}"}) for i in range(2)]
    await_that(lambda: [len(leased(queue)) for queue in queues] == [2, 2], 20 * SLOWNESS, "2:2")
    assert not leased(queues[0]) & leased(queues[1])
    for queue in queues:
        ids = [queue.submit(["true"]) for _ in range(20)]
        assert {queue.wait(id)["worker"] for id in ids} <= leased(queue)
    queues[0].kill9()
    await_that(lambda: len(leased(queues[1])) == 4, 20 * SLOWNESS, "the survivor to have all")
    queues[0].start()
    await_that(lambda: [len(leased(queue)) for queue in queues] == [2, 2], 20 * SLOWNESS, "2:2 again")
