# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many tasks from many clients at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import pytest
import requests

from bedlib import SLOWNESS, Runner, await_that, load, open_fds, open_folder, run, settled_fds, task_id

pytestmark = [pytest.mark.plain, pytest.mark.serial]

N_TASKS = load(500)
N_CLIENTS = 8
AT_ONCE = 8


def submit_all(runner: Runner, bodies: dict[str, object]) -> list[str]:
    """One client: submits without waiting, over one connection."""
    with requests.Session() as http:
        http.trust_env = False
        for id, body in bodies.items():
            answer = http.post(f"{runner.url}/api/v1/task/{id}", json=body, timeout=60 * SLOWNESS)
            assert answer.status_code == 202, answer.text
    return list(bodies)


def state_of_the_machine(runner: Runner) -> dict[str, object]:
    """What must not grow."""
    return {
        "descriptors": len(open_fds(runner.main_pid)),
        "processes": len(list(Path("/proc").glob("[0-9]*"))),
        "scopes": run("systemctl", "list-units", "--all", "--plain", "--no-legend", "daggyr-task-*"),
        "cgroups": sorted(map(str, Path("/sys/fs/cgroup").glob("**/daggyr-task-*"))),
    }


def has_not_grown(before: dict[str, object], now: dict[str, object]) -> bool:
    """Of processes there may be fewer, if one of somebody else's has ended."""
    n_before, n_now = before["processes"], now["processes"]
    assert isinstance(n_before, int) and isinstance(n_now, int)
    return n_now <= n_before and now | {"processes": n_before} == before


def test_500_tasks_run_8_at_a_time_and_leave_nothing(
    start_runner: Callable[..., Runner], record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Lost: trust. Under load tasks would be lost, run twice, overlap, or leave things behind."""
    runner = start_runner({"capacity_overrides": {"cores": AT_ONCE, "memory_mb": 1 << 20}})
    assert runner.run(["true"])["succeeded"]
    runner.http.close()
    log = open_folder() / "log"
    log.touch()
    log.chmod(0o666)
    settled_fds(runner.main_pid)
    before = await_that(
        lambda: (state := state_of_the_machine(runner))["scopes"] == "" and state, what="silence"
    )

    # Lines this short are appended whole, so the log's order is the order of things.
    body = {"command": ["sh", "-c", f"echo + >> {log}; sleep 0.05; echo - >> {log}"]}
    shares = [{task_id(): body for _ in range(N_TASKS // N_CLIENTS)} for _ in range(N_CLIENTS)]
    for share in shares[: N_TASKS % N_CLIENTS]:
        share[task_id()] = body
    start = time.monotonic()
    with ThreadPoolExecutor(N_CLIENTS) as clients:
        ids = sum(clients.map(lambda share: submit_all(runner, share), shares), [])
    submitted = time.monotonic() - start
    assert len(set(ids)) == N_TASKS
    results = [runner.wait(id, seconds=120)["result"] for id in ids]
    finished = time.monotonic() - start
    print(f"{N_TASKS} tasks: submitted in {submitted:.1f} s, finished in {finished:.1f} s")
    record_testsuite_property("load_submitted_seconds", round(submitted, 2))
    record_testsuite_property("load_finished_seconds", round(finished, 2))

    assert results == ["success"] * N_TASKS
    steps = log.read_text().splitlines()
    assert (steps.count("+"), steps.count("-")) == (N_TASKS, N_TASKS)
    running = list(accumulate(+1 if step == "+" else -1 for step in steps))
    assert max(running) <= AT_ONCE
    assert max(running) > AT_ONCE / 2, "capacity was left idle"
    runner.http.close()
    await_that(lambda: has_not_grown(before, state_of_the_machine(runner)), 20, f"no more than before: {before}")
    capacity = runner.get("/api/v1/capacity").json()
    assert capacity["free"] == capacity["total"]
    assert capacity["tasks"] == {"queued": 0, "running": 0}


def test_many_clients_wait_for_one_task(start_runner: Callable[..., Runner]) -> None:
    """Lost: a popular task would block its runner, or answer only some of those who wait."""
    runner = start_runner()
    id = runner.submit(["sleep", "infinity"])

    def wait(_: int) -> str:
        answer = requests.get(f"{runner.url}/api/v1/task/{id}?wait=100", timeout=120 * SLOWNESS)
        return str(answer.json()["result"])

    before = len(settled_fds(runner.main_pid))
    with ThreadPoolExecutor(100) as clients:
        results = clients.map(wait, range(100))
        await_that(lambda: len(open_fds(runner.main_pid)) >= before + 100, what="100 clients")
        assert runner.get("/ready").status_code == 200
        runner.delete(f"/api/v1/task/{id}")
        assert list(results) == ["stopped"] * 100
