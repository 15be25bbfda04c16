# SPDX-License-Identifier: LGPL-2.1-or-later
"""Queues that find each other, and what they hold."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import requests

from bedlib import SLOWNESS, WORKER_NUMBER, Queue, Runner, await_that
from emcee_queue import emcee_json
from lease_history import placed_config

Starter = Callable[..., Any]

ROOM = {"capacity_overrides": {"cores": 4, "memory_mb": 8192}, "pass_environment": ["PLACE"]}
POLL, CACHE, LEASE = 0.5, 2, 3
BOUND = POLL + CACHE + LEASE
SCAN = 1  # seconds for a scan and for this machine being busy

# Above those of runners, and below those that the kernel hands out by itself.
_ranges = itertools.count(30000 + 600 * WORKER_NUMBER, 10)


def sharing_config(sharing: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """What queues that are to find each other have in common; no other test's queues are in it."""
    first = next(_ranges)
    ports = {"from": first, "to": first + 9}
    shared = {"hosts": ["127.0.0.1"], "port_range": ports, "poll_interval": POLL, "cache_ttl": CACHE}
    return {"port_range": ports, "sharing": shared | (sharing or {}), "lease_ttl": LEASE} | more


def some_runners(start_runner: Starter, n: int) -> dict[str, Runner]:
    return {name: start_runner(ROOM, placed_config(name)) for name in (f"w{i}" for i in range(n))}


def address(queue: Queue) -> str:
    return queue.url.removeprefix("http://")


def leased(queue: Queue) -> set[str]:
    return {id for id, worker in queue.workers().items() if (worker["lease"] or {}).get("own")}


def permitted(queue: Queue) -> set[str]:
    return {id for id, worker in queue.workers().items() if worker["permitted"]}


def await_sizes(queues: list[Queue], sizes: list[int], timeout: float = 20) -> None:
    """Until they hold as many leases; these are then disjoint."""
    await_that(lambda: [len(leased(queue)) for queue in queues] == sizes, timeout, f"shares of {sizes}")
    shares = [leased(queue) for queue in queues]
    assert sum(map(len, shares)) == len(set().union(*shares)), shares


def ask(url: str, path: str, body: Any, **options: Any) -> requests.Response:
    return requests.post(url + path, data=emcee_json(body), timeout=60 * SLOWNESS, **options)


def post_to(queue: Queue) -> Callable[[str, Any], requests.Response]:
    """What posts to it, of any thread."""
    return lambda path, body: requests.post(queue.url + path, json=body, timeout=60)


class Load:
    """Submits short tasks to a queue all the time, at most so many, also while it is away."""

    def __init__(
        self, post: Callable[[str, Any], requests.Response], prefix: str, n_max: int = 400, pause: float = 0.08
    ) -> None:
        self.ids: list[str] = []
        self._post, self._prefix, self._n_max, self._pause = post, prefix, n_max, pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._submit, daemon=True)
        self._thread.start()

    def stop(self) -> list[str]:
        self._stop.set()
        self._thread.join()
        return self.ids

    def _submit(self) -> None:
        body = {"command": ["sh", "-c", "echo $PLACE; sleep 0.2"], "resources": {"cores": 1}}
        while len(self.ids) < self._n_max and not self._stop.wait(self._pause):
            id = f"{self._prefix}.{len(self.ids)}"
            try:
                if self._post(f"/api/v1/task/{id}", body).ok:
                    self.ids.append(id)
            except requests.ConnectionError:
                pass
