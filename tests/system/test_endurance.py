# SPDX-License-Identifier: LGPL-2.1-or-later
"""After thousands of tasks, and after clients at their worst, daggyr is as it was."""

from __future__ import annotations

import itertools
import os
import random
import re
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from bedlib import SLOWNESS, SMALL_QUARANTINE, Runner, await_that, open_fds, run, settled_fds, task_id

pytestmark = pytest.mark.serial

N_TASKS = int(os.environ.get("DAGGYR_ENDURANCE_TASKS", 2000))
"""A leak in each task is seen after as many; 10,000 take about three minutes on two cores, six with sanitizers."""

AT_ONCE = 16
RESULTS_MAX = 200
"""Few results are kept, so that what is measured first holds as many as it ever will."""

STORM_SECONDS = 20
CONFIG = {"capacity_overrides": {"cores": AT_ONCE, "memory_mb": 1 << 20}, "results_max": RESULTS_MAX}



def resident_kb(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def state_of_the_machine(runner: Runner) -> dict[str, object]:
    """What must be the same whenever nothing runs."""
    runner.http.close()
    return {
        "descriptors": sorted(
            target.split(":")[0] for target in open_fds(runner.main_pid).values()
        ),
        "scopes": run("systemctl", "list-units", "--all", "--plain", "--no-legend", "daggyr-task-*"),
        "cgroups": sorted(map(str, Path("/sys/fs/cgroup").glob("**/daggyr-task-*"))),
        "leaders": run("pgrep", "--count", "daggyr-leader", check=False).strip(),
        "files": sorted(map(str, Path("/var/cache/daggyr").iterdir())),
    }


def await_rest(runner: Runner) -> dict[str, object]:
    """The state once all of the tasks' scopes and connections are gone."""
    return await_that(
        lambda: (state := state_of_the_machine(runner))["scopes"] == ""
        and state["leaders"] == "0"
        and state,
        timeout=30,
        what="all scopes to be gone",
    )


def assert_full_capacity(runner: Runner) -> None:
    capacity = runner.get("/api/v1/capacity").json()
    assert capacity["free"] == capacity["total"]
    assert capacity["tasks"] == {"queued": 0, "running": 0}


KINDS: list[list[str]] = [
    ["true"],
    ["sh", "-c", "echo out; echo err >&2; exit 3"],
    ["no-such-program"],
    ["sh", "-c", "kill -9 $$"],
    ["sh", "-c", "sleep 1000 & exit 0"],
]
"""Short tasks of every kind of end."""


def run_tasks(runner: Runner, n: int) -> Counter[str]:
    """Runs so many tasks, AT_ONCE in flight, and returns how they ended."""
    numbers = iter(range(n))

    def client(_: int) -> Counter[str]:
        results: Counter[str] = Counter()
        with requests.Session() as http:
            http.trust_env = False
            for i in numbers:
                url = f"{runner.url}/api/v1/task/{task_id('endure')}"
                body = {"command": KINDS[i % len(KINDS)]}
                assert http.post(url, json=body, timeout=60 * SLOWNESS).status_code == 202
                answer = http.get(url, params={"wait": 60}, timeout=90 * SLOWNESS)
                results[answer.json()["result"]] += 1
        return results

    with ThreadPoolExecutor(AT_ONCE) as clients:
        return sum(clients.map(client, range(AT_ONCE)), Counter())


def expected_results(n: int) -> Counter[str]:
    ends = itertools.cycle(["success", "exit-code", "exec-failed", "signal", "success"])
    return Counter(itertools.islice(ends, n))


@pytest.mark.timeout(3600)
def test_thousands_of_tasks_leave_no_trace(
    start_runner: Callable[..., Runner], record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Lost: a runner that has to be restarted every few weeks, and nobody knows why."""
    runner = start_runner(CONFIG, properties=SMALL_QUARANTINE)
    pid = runner.main_pid
    first = min(1000, N_TASKS // 3)
    assert run_tasks(runner, first) == expected_results(first)
    runner.http.close()
    settled_fds(pid)
    before, memory_before = await_rest(runner), resident_kb(pid)

    rest = N_TASKS - first
    start = time.monotonic()
    assert run_tasks(runner, rest) == expected_results(rest)
    rate = rest / (time.monotonic() - start)
    await_that(lambda: await_rest(runner) == before, timeout=40, what=f"all to be as before: {before}")
    memory_after = resident_kb(pid)
    print(f"{rate:.0f} tasks/s; resident {memory_before} kB after {first}, {memory_after} kB at the end")
    record_testsuite_property("endurance_tasks_per_second", round(rate, 1))
    record_testsuite_property("endurance_resident_growth_kb", memory_after - memory_before)

    # An allocator's pools settle within a few percent; a leak of 100 bytes a task would show.
    assert memory_after <= memory_before * 1.05 + 0.1 * rest
    assert runner.main_pid == pid
    assert_full_capacity(runner)


class Tormentor:
    """A client that submits, waits, deletes, kills and hangs up as chance has it."""

    def __init__(self, runner: Runner, seed: int) -> None:
        self._runner = runner
        self._random = random.Random(seed)
        self._http = requests.Session()
        self._http.trust_env = False
        self._ids: list[str] = []

    def run(self, until: float) -> list[str]:
        actions = [self._submit] * 4 + [self._delete] * 2 + [self._kill, self._hang_up, self._hang_up]
        while time.monotonic() < until:
            self._random.choice(actions)()
            time.sleep(self._random.uniform(0, 0.05))
        self._http.close()
        return self._ids

    def _submit(self) -> None:
        id = task_id("storm")
        command = self._random.choice(
            [
                ["sleep", "infinity"],
                ["sleep", f"{self._random.uniform(0, 0.3):.3f}"],
                ["sh", "-c", "trap '' TERM; yes & yes >&2 & sleep 5"],
                ["sh", "-c", "(setsid sleep 1000 &); exit 1"],
            ]
        )
        body = {"command": command, "grace": 0.2, "timeout": 3}
        answer = self._http.post(self._url(id), json=body, timeout=60 * SLOWNESS)
        assert answer.status_code in (202, 429), answer.text
        if answer.status_code == 202:
            self._ids.append(id)

    def _delete(self) -> None:
        if self._ids:
            id = self._random.choice(self._ids[-10:])
            answer = self._http.delete(self._url(id), timeout=60 * SLOWNESS)
            assert answer.status_code in (202, 204, 404), answer.text

    def _kill(self) -> None:
        """All processes of a scope at once, its leader too."""
        if self._ids:
            unit = f"daggyr-task-{self._random.choice(self._ids[-10:])}.scope"
            command = ["systemctl", "kill", "--signal=KILL", unit]
            subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False)

    def _hang_up(self) -> None:
        """In the middle of a request, or of the answer."""
        id = self._random.choice(self._ids[-10:] or ["none"])
        request = self._random.choice(
            [
                f"GET /api/v1/task/{id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n",
                f"GET /api/v1/task/{id}/output?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "POST /api/v1/task HTTP/1.1\r\nHost: localhost\r\n"
                'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"command":["true"]',
            ]
        )
        with socket.create_connection(("127.0.0.1", self._runner.config["port"])) as connection:
            cut = len(request) if self._random.random() < 0.7 else self._random.randrange(len(request))
            connection.sendall(request[:cut].encode())
            time.sleep(self._random.uniform(0, 0.1))

    def _url(self, id: str) -> str:
        return f"{self._runner.url}/api/v1/task/{id}"


def live_tasks(runner: Runner) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = []
    for state in ("queued", "running"):
        tasks += runner.get(f"/api/v1/tasks?state={state}").json()["tasks"]
    return tasks


@pytest.mark.parametrize("seed", [1])
def test_a_storm_of_kills_deletes_and_hangups_passes(
    start_runner: Callable[..., Runner], seed: int
) -> None:
    """Lost: capacity, bit by bit, to clients that do not behave."""
    runner = start_runner(CONFIG)
    pid = runner.main_pid
    assert runner.run(["true"])["succeeded"]
    runner.http.close()
    settled_fds(pid)
    before = await_rest(runner)
    until = time.monotonic() + STORM_SECONDS
    with ThreadPoolExecutor(8) as clients:
        storms = [clients.submit(Tormentor(runner, seed * 100 + i).run, until) for i in range(8)]
        submitted = [id for storm in storms for id in storm.result()]
    assert len(submitted) > STORM_SECONDS

    print(f"{len(submitted)} tasks; {time.monotonic() - until:.1f} s late")
    for task in live_tasks(runner):
        runner.delete(f"/api/v1/task/{task['task_id']}")
    await_that(lambda: not live_tasks(runner), timeout=60, what="the end of all tasks")
    print(f"all ended {time.monotonic() - until:.1f} s after the storm")
    assert_full_capacity(runner)
    for task in runner.get(f"/api/v1/tasks?limit={RESULTS_MAX}").json()["tasks"]:
        runner.delete(f"/api/v1/task/{task['task_id']}")  # large outputs are in files
    await_that(lambda: await_rest(runner) == before, timeout=40, what=f"all to be as before: {before}")
    assert runner.main_pid == pid
    assert runner.run(["true"])["succeeded"]
