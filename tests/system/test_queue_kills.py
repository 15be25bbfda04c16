# SPDX-License-Identifier: LGPL-2.1-or-later
"""What daggyd has accepted it keeps and has run once, whenever it is killed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
import requests

from bedlib import BROKEN_OFF, ROOMY, SLOWNESS, Queue, Runner, await_that, injected, open_folder, run, task_id

Starter = Callable[..., Any]

ALWAYS_UP = {"Restart": "always", "RestartSec": "0", "StartLimitInterval": "0"}
STARTED_OFTEN = {"StartLimitInterval": "0"}
N_KILLS = 100 if SLOWNESS <= 1 else 30
N_CLIENTS = 4
N_TASKS_EACH = 75

Stage = tuple[Optional[str], Optional[str]]

STAGES: list[Stage] = [
    (None, None),  # nothing is known of the task
    ("queued", None),  # accepted
    ("queued", "sent"),  # placed, and perhaps submitted
    ("running", "running"),  # its worker has accepted it
    ("completed", "finished"),  # its result is stored; its worker has yet to forget it
]
"""What the store has of a task and of its attempt, in the order in which it is written."""


def insist(call: Callable[[], requests.Response], seconds: float = 60) -> requests.Response:
    """The answer of a queue that may be away for a moment."""

    def attempt() -> list[requests.Response]:
        try:
            answer = call()
        except (*BROKEN_OFF, requests.Timeout):
            return []
        return [answer] if answer.status_code != 503 else []

    return await_that(attempt, seconds, "an answer")[0]


def kill_now_and_then(queue: Queue, n: int, rng: random.Random, is_over: threading.Event) -> None:
    for _ in range(n):
        pid = await_that(lambda: queue.main_pid, 30, "daggyd to be started again")
        time.sleep(rng.uniform(0, 0.25) * SLOWNESS)  # anywhere between its start and its work
        os.kill(pid, signal.SIGKILL)
        await_that(lambda: queue.main_pid != pid, 30, "systemd to notice")
    is_over.set()


def test_accepted_means_on_disk(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks that a client was told are taken; or they run twice."""
    folder = open_folder()
    runners = {name: start_runner(ROOMY) for name in ("a", "b")}
    queue = start_queue(runners, {"lost_after": 30, "lease_ttl": 10}, ALWAYS_UP)
    queue.await_leases(*runners)
    rng = random.Random(2503)
    is_over = threading.Event()
    accepted: list[str] = []

    def submit_all(seed: int) -> None:
        with requests.Session() as http:
            http.trust_env = False
            for i in range(N_TASKS_EACH):
                id = task_id(f"kill{seed}")
                script = f"echo {id} >> {folder}/{id}; sleep 0.{i % 4}; echo done"
                body = {"command": ["sh", "-c", script], "resources": {"cores": 0.1, "memory_mb": 16}}
                url = f"{queue.url}/api/v1/task/{id}"
                answer = insist(lambda: http.post(url, json=body, timeout=10 * SLOWNESS))
                assert answer.status_code in (200, 202), answer.text
                accepted.append(id)

    clients = [threading.Thread(target=submit_all, args=(seed,)) for seed in range(N_CLIENTS)]
    for client in clients:
        client.start()
    kill_now_and_then(queue, N_KILLS, rng, is_over)
    for client in clients:
        client.join()
    assert len(accepted) == N_CLIENTS * N_TASKS_EACH

    http = requests.Session()
    for id in accepted:
        url = f"{queue.url}/api/v1/task/{id}?wait={min(300, 60 * SLOWNESS)}"
        attempt = insist(lambda: http.get(url, timeout=90 * SLOWNESS)).json()
        assert attempt["state"] == "completed", attempt
        assert attempt["output"] == "done\n", attempt
        assert attempt["attempts"] == [], attempt
        assert (folder / id).read_text() == f"{id}\n"
    listed = 0
    after = "0"
    while after:
        page = http.get(f"{queue.url}/api/v1/tasks?limit=100&after={after}").json()
        listed += len(page["tasks"])
        after = page["next"]
    assert listed == len(accepted)


def stage_on_disk(queue: Queue, id: str) -> Stage:
    """What a start would find, read from a copy: who opens a store changes it."""
    with tempfile.TemporaryDirectory() as copy:
        for file in Path("/var/lib", queue.name).resolve().glob("tasks.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy)
        with contextlib.closing(sqlite3.connect(Path(copy, "tasks.db"))) as db:
            found = db.execute(
                "SELECT tasks.state, attempts.state FROM tasks LEFT JOIN attempts USING (seq) WHERE task_id = ?", [id]
            ).fetchall()
    assert len(found) <= 1, found
    return found[0] if found else (None, None)


def submit_once(queue: Queue, id: str, body: dict[str, Any]) -> bool:
    """Whether the queue lived to answer."""
    try:
        answer = requests.post(f"{queue.url}/api/v1/task/{id}", json=body, timeout=30 * SLOWNESS)
    except BROKEN_OFF:
        return False
    assert answer.status_code == 202, answer.text
    return True


def has_run_its_course(queue: Queue, runner: Runner, id: str) -> bool:
    """Whether nothing is left to be stored of the task: the runner is made to forget after the last write."""
    try:
        state = requests.get(f"{queue.url}/api/v1/task/{id}", timeout=30 * SLOWNESS).json()["state"]
    except BROKEN_OFF:
        return False
    kept = [task["task_id"] for task in runner.get("/api/v1/tasks").json()["tasks"]]
    return state == "completed" and not any(name.startswith(f"{id}.") for name in kept)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("syscall", "size", "gaps"),
    [("pwrite64", 5, STAGES[:-1]), ("fdatasync", 3_000_000, STAGES[1:-1])],
    ids=["before-any-write", "before-any-sync-with-a-large-output"],
)
def test_a_kill_at_any_write_loses_and_repeats_nothing(
    syscall: str, size: int, gaps: list[Stage], start_runner: Starter, start_queue: Starter
) -> None:
    """Lost: a task whose queue died between two of its writes, or the work of one that is then done twice."""
    folder = open_folder()
    runner = start_runner(ROOMY)
    queue = start_queue({"w": runner}, {"lost_after": 60, "lease_ttl": 10}, STARTED_OFTEN)
    queue.await_leases("w")
    stages: list[Stage] = []
    while True:
        id = task_id("write")
        script = f"echo {id} >> {folder}/{id}; sleep 1; head -c {size} /dev/zero"
        body = {"command": ["sh", "-c", script], "resources": {"cores": 0.1, "memory_mb": 16}}
        with injected(queue, syscall, f"signal=KILL:when={len(stages) + 1}") as tracer:
            accepted = submit_once(queue, id, body)
            await_that(
                lambda: tracer.poll() is not None or has_run_its_course(queue, runner, id), 60, "the kill or the end"
            )
            if tracer.poll() is None:
                break
        await_that(lambda: queue.state == "failed", what="systemd to notice the kill")
        stages.append(stage_on_disk(queue, id))
        run("systemctl", "start", queue.unit)
        queue.await_leases("w")
        again = queue.post(f"/api/v1/task/{id}", json=body)
        assert again.status_code == (202 if stages[-1] == STAGES[0] else 200), (stages, again.text)
        assert not (accepted and again.status_code == 202), stages
        attempt = queue.wait(id, 60)
        assert (attempt["state"], attempt["attempts"]) == ("completed", []), (stages, attempt | {"output": ""})
        assert queue.get(f"/api/v1/task/{id}/output").content == bytes(size), stages
        assert (folder / id).read_text() == f"{id}\n", stages
    hits = Counter(stages)
    print(f"kills before a {syscall} by what was stored:", dict(hits))
    assert set(gaps) <= set(hits)  # what comes after the result may go to the disk together with it
