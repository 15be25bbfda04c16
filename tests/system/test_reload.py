# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration is read again while tasks run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from bedlib import (
    KEPT,
    ROOMY,
    SLOWNESS,
    Runner,
    await_that,
    load,
    open_fds,
    open_folder,
    processes_of,
    run,
    settled_fds,
    submit_brood,
    submit_gated,
    task_id,
    unit_property,
)

JSON = {"Content-Type": "application/json"}


def capacity(cores: int) -> dict[str, int]:
    return {"cores": cores, "memory_mb": 65536}


def status_of_submission(runner: Runner, **fields: Any) -> int:
    body = {"command": ["true"]} | fields
    return runner.post(f"/api/v1/task/{task_id()}", json=body).status_code


def test_more_capacity_starts_what_waits_and_touches_nothing_that_runs(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: a change of the configuration would cost all running tasks."""
    runner = start_runner({"capacity_overrides": capacity(1)})
    daemon = runner.main_pid
    running = submit_brood(runner)
    before = runner.attempt(running), processes_of(running)
    waiting = runner.submit(["true"])
    assert status_of_submission(runner, resources={"cores": 2}) == 422
    runner.reconfigure(capacity_overrides=capacity(4))
    assert runner.wait(waiting)["succeeded"]
    assert (runner.attempt(running), processes_of(running)) == before
    assert (runner.main_pid, runner.state) == (daemon, "active")
    assert runner.get("/api/v1/resources").json()["cores"] == 4
    assert runner.run(["true"], resources={"cores": 2})["succeeded"]


def test_less_capacity_takes_nothing_from_what_runs(start_runner: Callable[..., Runner]) -> None:
    """Lost: tasks would be killed, or free capacity become a negative number."""
    runner = start_runner({"capacity_overrides": capacity(4)})
    ids = [runner.submit(["sleep", "infinity"]) for _ in range(3)]
    await_that(lambda: all(runner.attempt(id)["start_time"] for id in ids), what="three tasks")
    runner.reconfigure(capacity_overrides=capacity(2))
    found = runner.get("/api/v1/capacity").json()
    assert (found["total"]["cores"], found["free"]["cores"]) == (2, 0)
    waiting = runner.submit(["true"])
    runner.delete(f"/api/v1/task/{ids[0]}?wait=60")
    assert runner.attempt(waiting, wait=0.5)["state"] == "queued"
    runner.delete(f"/api/v1/task/{ids[1]}?wait=60")
    assert runner.wait(waiting)["succeeded"]
    assert runner.attempt(ids[2])["state"] == "running"


def test_names_of_capacities_can_change_while_all_are_in_use(start_runner: Callable[..., Runner]) -> None:
    """Lost: the daemon with all its tasks, to a task that is one name too many."""
    names = [f"n{i}" for i in range(16)]
    runner = start_runner({"capacity_overrides": capacity(4) | {name: 1 for name in names}})
    holder = runner.submit(["sleep", "infinity"], resources={name: 1 for name in names})
    await_that(lambda: runner.attempt(holder)["start_time"], what="the start")
    daemon = runner.main_pid
    runner.reconfigure(capacity_overrides=capacity(4) | {"other": 1})
    waiting = runner.submit(["true"], resources={"other": 1})
    assert runner.run(["true"])["succeeded"]
    assert (runner.attempt(waiting)["state"], runner.main_pid) == ("queued", daemon)
    runner.delete(f"/api/v1/task/{holder}?wait=60")
    assert runner.wait(waiting)["succeeded"]


def test_accounts_can_be_allowed_and_forbidden(start_runner: Callable[..., Runner]) -> None:
    """Lost: a new account would have to wait until all tasks have ended."""
    runner = start_runner(ROOMY)
    assert status_of_submission(runner, user="nobody") == 403
    runner.reconfigure(allowed_users=["nobody"])
    attempt = runner.run(["id", "-un"], user="nobody")
    assert attempt["output"] == "nobody\n"
    runner.reconfigure(allowed_users=[])
    assert status_of_submission(runner, user="nobody") == 403


def test_limits_and_defaults_change_with_the_next_task(start_runner: Callable[..., Runner]) -> None:
    """Lost: settings that the documentation lists as reloadable."""
    runner = start_runner({"capacity_overrides": capacity(1)})
    blocker = runner.submit(["sleep", "infinity"])
    assert status_of_submission(runner) == 202
    runner.reconfigure(queue_max=1)
    assert status_of_submission(runner) == 429
    runner.reconfigure(capacity_overrides=capacity(8), default_resources={"cores": 0.5, "memory_mb": 64})
    assert runner.run(["true"])["resources"] == {"cores": 0.5, "memory_mb": 64}
    runner.reconfigure(capacity_overrides=capacity(8), output_max_bytes=10)
    attempt = runner.run(["seq", "1000"])
    assert (attempt["output"], attempt["output_truncated"]) == ("1\n2\n3\n4\n5\n", True)
    runner.reconfigure(capacity_overrides=capacity(8), inline_output_bytes=4)
    assert runner.run(["seq", "1000"])["output"] == "1\n2\n"
    runner.reconfigure(capacity_overrides=capacity(8), require_lease=True)
    assert status_of_submission(runner) == 423
    assert runner.attempt(blocker)["state"] == "running"


def test_the_same_body_is_the_same_task_whatever_became_of_the_defaults(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: a client that repeats a submission whose answer it did not get is told that its id is taken."""
    runner = start_runner(ROOMY | {"default_resources": {"cores": 0.2, "memory_mb": 50}})
    bodies = [
        {"command": ["true"]},
        {"command": ["true"], "resources": {}},
        {"command": ["true"], "resources": {"memory_mb": 60}},
        {"command": ["true"], "resources": {"cores": 0.3}},
        {"command": ["sleep", "infinity"]},
    ]
    tasks = {task_id(): body for body in bodies}
    for id, body in tasks.items():
        assert runner.post(f"/api/v1/task/{id}", json=body).status_code == 202
    before = {id: runner.attempt(id)["resources"] for id in tasks}
    for cores in (0.4, 0.1):
        runner.reconfigure(default_resources={"cores": cores, "memory_mb": 70})
        assert runner.run(["true"])["resources"] == {"cores": cores, "memory_mb": 70}
        for id, body in tasks.items():
            again = runner.post(f"/api/v1/task/{id}", json=body)
            assert again.status_code == 200, (body, again.text)
            assert again.json()["resources"] == before[id], "and it keeps what it was given"
            named = body | {"resources": {"cores": cores, "memory_mb": 70}}
            assert runner.post(f"/api/v1/task/{id}", json=named).status_code == 409, "that asks for something else"
        batch = [body | {"task_id": id} for id, body in tasks.items()]
        outcomes = runner.post("/api/v1/tasks", json=batch).json()
        assert [outcome["status"] for outcome in outcomes] == [200] * len(batch)


def test_results_beyond_a_new_limit_are_forgotten_and_live_tasks_are_not(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: the way to free memory without a restart."""
    runner = start_runner(ROOMY)
    live = runner.submit(["sleep", "infinity"])
    ids = [runner.run(["true"])["task_id"] for _ in range(5)]
    runner.reconfigure(results_max=2)
    known = [task["task_id"] for task in runner.get("/api/v1/tasks").json()["tasks"]]
    assert known == [live, *ids[-2:]]
    runner.reconfigure(result_ttl=0)
    await_that(lambda: len(runner.get("/api/v1/tasks").json()["tasks"]) == 1, what="results to go")


def test_a_token_can_be_set_and_changed(start_runner: Callable[..., Runner]) -> None:
    """Lost: a token that has leaked could not be replaced without losing all tasks."""
    runner = start_runner(ROOMY)
    file = open_folder("/etc") / "token"  # the service sees no /tmp of others
    file.touch(mode=0o644)
    for token in ("the-first-token-of-all", "the-second-token-of-all"):
        file.write_text(f"{token}\n")
        runner.reconfigure(auth={"token_file": str(file)})
        assert runner.get("/api/v1/capacity").status_code == 401
        headers = {"Authorization": f"Bearer {token}"}
        assert runner.get("/api/v1/capacity", headers=headers).status_code == 200
    old = {"Authorization": "Bearer the-first-token-of-all"}
    assert runner.get("/api/v1/capacity", headers=old).status_code == 401


def test_what_needs_a_restart_stays_as_it_was(start_runner: Callable[..., Runner]) -> None:
    """Lost: a reload that half applies, where the documentation says that it does not."""
    runner = start_runner(ROOMY)
    text = runner.reconfigure(port=1, body_max_bytes=2048)
    assert "restart" in text
    note = "x" * 5000
    body = {"command": ["true"], "labels": {}, "stdin": note}
    assert runner.post(f"/api/v1/task/{task_id()}", json=body).status_code == 202
    answer = runner.post(f"/api/v1/1/{task_id()}", json={"command": ["true"], "note": note})
    assert answer.status_code == 200, answer.text


BAD_FILES = {
    "syntax": ('{"port": ', ""),
    "unknown": ('{"prot": 1}', "/prot"),
    "range": ('{"queue_max": -1}', "/queue_max"),
    "type": ('{"journal": "yes"}', "/journal"),
    "account": ('{"task_user": "no-such-user"}', "/task_user"),
    "root": ('{"task_user": "root"}', "/task_user"),
    "token": ('{"auth": {"token_file": "/no/such/file"}}', "/no/such/file"),
    "public": ('{"ip": "0.0.0.0"}', "/ip"),
}


@pytest.mark.parametrize(("content", "culprit"), BAD_FILES.values(), ids=list(BAD_FILES))
def test_a_file_with_a_mistake_changes_nothing_and_says_so(
    start_runner: Callable[..., Runner], content: str, culprit: str
) -> None:
    """Lost: a typo would take the runner down, or half of a configuration into force."""
    runner = start_runner({"capacity_overrides": capacity(3), "allowed_users": ["nobody"]})
    id = submit_brood(runner)
    daemon = runner.main_pid
    text = runner.reload(KEPT, content)
    complaint = [line for line in text.splitlines() if culprit in line and "daggyr[" in line]
    assert complaint, text
    assert any(str(runner.config_file) in line or culprit.startswith("/no") for line in complaint), text
    assert (runner.main_pid, runner.state) == (daemon, "active")
    assert runner.get("/api/v1/resources").json() == capacity(3)
    assert runner.run(["id", "-un"], user="nobody")["output"] == "nobody\n"
    assert runner.attempt(id)["state"] == "running"
    runner.reconfigure(capacity_overrides=capacity(4))
    assert runner.get("/api/v1/resources").json() == capacity(4)


def test_a_file_that_has_gone_changes_nothing(start_runner: Callable[..., Runner]) -> None:
    """Lost: the same for a reload in the middle of a package's update."""
    runner = start_runner({"capacity_overrides": capacity(3)})
    runner.config_file.unlink()
    run("systemctl", "reload", runner.unit)
    await_that(lambda: KEPT in runner.journal(), what=KEPT)
    assert runner.get("/api/v1/resources").json() == capacity(3)


def test_many_reloads_in_a_row_leave_nothing_behind(start_runner: Callable[..., Runner]) -> None:
    """Lost: a host whose configuration is managed by a program, every few minutes, for months."""
    runner = start_runner(ROOMY)
    id = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(id)["start_time"], what="the start")
    runner.reload()
    before = settled_fds(runner.main_pid)
    for _ in range(load(50)):
        os.kill(runner.main_pid, signal.SIGHUP)
        assert runner.get("/ready").status_code == 200
    await_that(lambda: open_fds(runner.main_pid) == before, what="nothing but what was open before")
    assert runner.delete(f"/api/v1/task/{id}?wait=60").json()["result"] == "stopped"
    assert runner.state == "active"


class Manager:
    """Takes systemd's place as the reader of notifications of a daggyr that root has started."""

    def __init__(self, config: dict[str, Any]) -> None:
        folder = open_folder()
        self.config_file = folder / "config.json"
        self.config_file.write_text(json.dumps(config))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.settimeout(20 * SLOWNESS)
        environment = os.environ | {"NOTIFY_SOCKET": str(folder / "notify")}
        command = ["/usr/bin/daggyr", "--config", str(self.config_file)]
        self.daemon = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    def next(self) -> dict[str, str]:
        """The next message that is about more than the status line."""
        while True:
            lines = self._socket.recv(65536).decode().splitlines()
            message = dict(line.split("=", 1) for line in lines)
            if set(message) - {"STATUS", "WATCHDOG"}:
                return message


@pytest.fixture
def manager() -> Iterator[Manager]:
    manager = Manager(ROOMY | {"port": 0})
    yield manager
    manager.daemon.kill()
    manager.daemon.wait()


def test_the_service_manager_hears_of_each_step(manager: Manager) -> None:
    """Lost: "systemctl reload" that returns when it is done (Type=notify-reload), and ordering after it."""
    assert manager.next()["READY"] == "1"
    for content in (json.dumps(ROOMY | {"port": 0}), "{"):
        manager.config_file.write_text(content)
        before = time.monotonic()
        manager.daemon.send_signal(signal.SIGHUP)
        reloading = manager.next()
        assert reloading["RELOADING"] == "1"
        assert before <= int(reloading["MONOTONIC_USEC"]) / 1e6 <= time.monotonic()
        assert manager.next()["READY"] == "1"
    manager.daemon.send_signal(signal.SIGTERM)
    assert manager.next()["STOPPING"] == "1"
    assert manager.daemon.wait(20 * SLOWNESS) == 0


def test_clients_that_wait_are_not_disturbed_by_a_reload(start_runner: Callable[..., Runner]) -> None:
    """Lost: each change of the configuration would break long polls and streams."""
    runner = start_runner(ROOMY)
    id, gate = submit_gated(runner)
    with requests.get(f"{runner.url}/api/v1/task/{id}/output?follow=true", stream=True) as stream:
        runner.reconfigure(capacity_overrides=capacity(5))
        gate.open()
        assert stream.content == b"done\n"
    assert runner.wait(id)["succeeded"]
    assert unit_property(runner.unit, "NRestarts") == "0"
