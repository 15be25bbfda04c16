# SPDX-License-Identifier: LGPL-2.1-or-later
"""What daggyd has accepted, it keeps: through restarts, full and damaged disks (and kills: test_queue_kills.py)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bedlib import ROOMY, SLOWNESS, Gate, Queue, await_that, open_folder, run, task_id, unit_property

Starter = Callable[..., Any]


def state_folder(queue: Queue) -> Path:
    return Path("/var/lib", queue.name).resolve()


def test_what_finished_meanwhile_is_fetched(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: results of tasks that ended while the queue was down, with all they wrote."""
    runner = start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 2048}})
    queue = start_queue({"w": runner})
    size = 3 * 1024 * 1024
    first, second = Gate(), Gate()
    script = f"{first.awaited}; head -c {size} /dev/zero; printf '\\377end'; echo problem >&2; exit 7"
    done = queue.submit(["sh", "-c", script])
    running = queue.submit(["sh", "-c", f"echo begun; {second.awaited}; echo end"])
    await_that(lambda: all(queue.attempt(id)["state"] == "running" for id in (done, running)))
    waiting = queue.submit(["echo", "waited"], resources={"cores": 2})
    queue.kill9()
    first.open()
    await_that(lambda: runner.get("/api/v1/capacity").json()["tasks"]["running"] == 1, 20)
    queue.start()
    second.open()
    attempt = queue.wait(done)
    assert (attempt["state"], attempt["exit_code"], attempt["error"]) == ("errored", 7, "problem\n")
    assert attempt["attempts"] == []
    assert queue.get(f"/api/v1/task/{done}/output").content == bytes(size) + b"\xffend"
    assert queue.wait(running)["output"] == "begun\nend\n"
    assert queue.wait(waiting)["output"] == "waited\n"
    # what is on disk here is forgotten there
    await_that(lambda: runner.get("/api/v1/tasks").json()["tasks"] == [], what="the runner to forget")


def test_a_stop_that_was_asked_for_survives(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a task that a client stopped just before a crash would run after it."""
    queue = start_queue({"w": start_runner({"capacity_overrides": {"cores": 1, "memory_mb": 1024}})})
    holder = queue.submit(["sleep", "infinity"])
    await_that(lambda: queue.attempt(holder)["state"] == "running")
    waiting = queue.submit(["sleep", "infinity"])
    queue.delete(f"/api/v1/task/{waiting}")
    queue.delete(f"/api/v1/task/{holder}")
    queue.kill9()
    queue.start()
    assert queue.wait(holder)["state"] == "killed"
    assert queue.wait(waiting)["state"] == "killed"


def test_sigterm_leaves_tasks_to_their_runners(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: work, at each update of daggyd; and time, as others wait for its leases to end."""
    busy, idle = (start_runner({"capacity_overrides": {"cores": 1, "memory_mb": 1024}}) for _ in range(2))
    queue = start_queue({"busy": busy, "idle": idle}, {"lease_ttl": 60})
    queue.await_leases("busy", "idle")
    queue.put("/api/v1/workers/idle", json={"disabled": True})
    gate = Gate()
    id = queue.submit(["sh", "-c", f"{gate.awaited}; echo end"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    assert queue.attempt(id)["worker"] == "busy"
    queue.stop()
    assert idle.get("/api/v1/lease").json() == {"lease": None}
    assert busy.attempt(busy.get("/api/v1/tasks").json()["tasks"][0]["task_id"])["state"] == "running"
    queue.start()
    gate.open()
    assert queue.workers()["idle"]["state"] == "disabled"
    assert queue.wait(id)["output"] == "end\n"
    assert queue.attempt(id)["attempts"] == []


def test_a_worker_that_hangs_does_not_hold_up_a_stop(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: quick restarts while a runner is ill."""
    runner = start_runner()
    queue = start_queue({"w": runner}, {"lease_ttl": 60, "lost_after": 60})
    queue.await_leases("w")
    pid = runner.main_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        queue.stop()
        assert time.monotonic() - begin < 6 * SLOWNESS
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_drained_queue_takes_and_starts_nothing(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a way to empty a queue for maintenance."""
    runner = start_runner({"capacity_overrides": {"cores": 1, "memory_mb": 1024}})
    queue = start_queue({"w": runner})
    queue.await_leases("w")
    gate = Gate()
    running = queue.submit(["sh", "-c", gate.awaited])
    await_that(lambda: queue.attempt(running)["state"] == "running")
    waiting = queue.submit(["true"])
    assert queue.put("/api/v1/drain", json={"drain": True}).status_code == 200
    refused = queue.post(f"/api/v1/task/{task_id()}", json={"command": ["true"]})
    assert refused.status_code == 503 and "Retry-After" in refused.headers
    assert queue.get("/ready").status_code == 503
    gate.open()
    assert queue.wait(running)["state"] == "completed"
    await_that(lambda: runner.get("/api/v1/lease").json()["lease"] is None, what="its lease to be released")
    assert queue.attempt(waiting)["state"] == "queued"
    queue.kill9()
    queue.start()
    assert queue.get("/ready").status_code == 503  # it drains on
    assert queue.attempt(waiting)["state"] == "queued"
    queue.put("/api/v1/drain", json={"drain": False})
    assert queue.wait(waiting)["state"] == "completed"


@pytest.mark.plain
def test_results_are_kept_by_number_and_age(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the disk, to results that nobody wants any more."""
    runner = start_runner(ROOMY)
    few = start_queue({"w": runner}, {"results_max": 3})
    ids = [few.submit(["true"]) for _ in range(6)]
    for id in ids:
        few.get(f"/api/v1/task/{id}", params={"wait": 30})
    await_that(lambda: len(few.get("/api/v1/tasks").json()["tasks"]) <= 3, 30, "old results to go")
    few.stop()
    short = start_queue({"w": runner}, {"result_ttl": 1})
    id = short.submit(["true"])
    short.wait(id)
    await_that(lambda: short.get(f"/api/v1/task/{id}").status_code == 404, 30, "an old result to go")


def test_the_same_body_is_the_same_task_whatever_became_of_the_defaults(
    start_runner: Starter, start_queue: Starter
) -> None:
    """Lost: a client that repeats its submission after a restart, as it should, is told that its id is taken."""
    queue = start_queue({"w": start_runner(ROOMY)}, {"default_resources": {"cores": 0.2, "memory_mb": 50}})
    bodies = [{"command": ["true"]}, {"command": ["true"], "resources": {"memory_mb": 60}}]
    tasks = {task_id(): body for body in bodies}
    for id, body in tasks.items():
        assert queue.post(f"/api/v1/task/{id}", json=body).status_code == 202
    before = {id: queue.wait(id)["resources"] for id in tasks}
    queue.stop()
    queue.config["default_resources"] = {"cores": 0.4, "memory_mb": 70}
    queue.start()
    assert queue.run(["true"])["resources"] == {"cores": 0.4, "memory_mb": 70}
    for id, body in tasks.items():
        again = queue.post(f"/api/v1/task/{id}", json=body)
        assert again.status_code == 200, (body, again.text)
        assert again.json()["resources"] == before[id]


def test_a_damaged_store_is_set_aside_and_said(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: an administrator's chance to save tasks, when a restart begins anew without a word."""
    queue = start_queue({}, properties={"Restart": "on-failure", "RestartSec": "0"})
    queue.stop()
    folder = state_folder(queue)
    store = folder / "tasks.db"
    content = bytearray(store.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    store.write_bytes(content)
    run("systemctl", "start", queue.unit, check=False)
    await_that(lambda: queue.state == "failed", what="daggyd to refuse")
    assert unit_property(queue.unit, "ExecMainStatus") == "65"
    assert unit_property(queue.unit, "NRestarts") == "0"
    assert "was damaged, and is now called" in queue.journal()
    assert len(list(folder.glob("tasks.db.corrupt-*"))) >= 1
    run("systemctl", "reset-failed", queue.unit)
    queue.start()
    assert queue.get("/api/v1/tasks").json()["tasks"] == []


def test_a_store_of_a_later_version_is_left_alone(start_queue: Starter) -> None:
    """Lost: a store, to an accidental downgrade."""
    queue = start_queue({})
    queue.stop()
    store = state_folder(queue) / "tasks.db"
    run("/usr/bin/python3", "-c", f"import sqlite3; sqlite3.connect('{store}').execute('PRAGMA user_version=99')")
    before = store.read_bytes()
    run("systemctl", "start", queue.unit, check=False)
    await_that(lambda: queue.state == "failed", what="daggyd to refuse")
    assert "was made by a later version of daggyd" in queue.journal()
    assert store.read_bytes() == before


def test_a_second_daggyd_in_the_same_folder_is_refused(start_queue: Starter) -> None:
    """Lost: everything, to two queues that each run the other's tasks."""
    first = start_queue({})
    config = open_folder() / "second.json"
    config.write_text(json.dumps({"port": 0, "state_directory": str(state_folder(first))}))
    second = subprocess.run(
        ["/usr/bin/daggyd", "--config", str(config)], capture_output=True, text=True, timeout=20 * SLOWNESS
    )
    assert second.returncode == 1
    assert "another process uses this state directory" in second.stderr
    assert first.get("/api/v1/tasks").status_code == 200


def test_a_full_disk_refuses_and_recovers(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks that are said to be taken but are nowhere; results, because the disk was full for a while."""
    go = open_folder() / "go"
    runner = start_runner(ROOMY)
    queue = start_queue({"w": runner})
    queue.stop()
    folder = state_folder(queue)
    run("mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(folder))
    try:
        queue.start()
        queue.await_leases("w")
        script = f"while ! test -e {go}; do sleep 0.1; done; head -c 300000 /dev/urandom"
        id = queue.submit(["sh", "-c", script])
        await_that(lambda: queue.attempt(id)["state"] == "running")
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        refused = queue.post(f"/api/v1/task/{task_id()}", json={"command": ["true"], "stdin": "x" * 100000})
        assert refused.status_code == 503, refused.text
        assert "Retry-After" in refused.headers
        go.touch()
        await_that(lambda: "Cannot store" in queue.journal(), 20, "daggyd to say that it cannot store")
        assert queue.attempt(id)["state"] == "running"
        filler.unlink()
        attempt = queue.wait(id)
        assert (attempt["state"], attempt["output_truncated"]) == ("completed", False), attempt | {"output": ""}
        assert len(queue.get(f"/api/v1/task/{id}/output").content) == 300000
        assert queue.run(["echo", "room"])["output"] == "room\n"
        queue.stop()
    finally:
        run("umount", "-l", str(folder))
