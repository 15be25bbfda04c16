# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyd and runners that die, hang, drain, come back, or are not runners at all."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bedlib import ROOMY, Gate, Runner, await_that, open_folder

Starter = Callable[..., Any]

ONE = {"capacity_overrides": {"cores": 1, "memory_mb": 1024}}


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process hangs meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class FakeWorker:
    """An HTTP server at a runner's address that answers every request by a function of (method, path):
    status and body."""

    def __init__(self, answer: Callable[[str, str], tuple[int, bytes]]) -> None:
        self.requests: list[tuple[str, str]] = []
        self.closed = False
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.close_connection = fake.closed
                if fake.closed:
                    return
                fake.requests.append((self.command, self.path))
                status, body = answer(self.command, self.path)
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:  # it has heard enough
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.closed = True
        self._server.shutdown()
        self._server.server_close()


def slow_answer(method: str, path: str) -> tuple[int, bytes]:
    time.sleep(20)
    return 200, b"{}"


CAPACITY = {
    "total": {"cores": 64, "memory_mb": 65536},
    "free": {"cores": 64, "memory_mb": 65536},
    "draining": False,
    "facts": {"instance_id": "0" * 32},
}
LEASE = {"lease_id": "a" * 32, "ttl": 3}


def runs_nothing(method: str, path: str) -> tuple[int, bytes]:
    """One that looks like a runner until it is given a task."""
    if path == "/api/v1/capacity":
        return 200, json.dumps(CAPACITY).encode()
    if "/lease" in path:
        return 200, json.dumps(LEASE).encode()
    if path.startswith("/api/v1/tasks"):
        tasks = [{"task_id": f"ghost-{i}", "state": "completed"} for i in range(3)] + [17, None, {}]
        return 200, json.dumps({"tasks": tasks, "next": None}).encode()
    return 500, b"\x00\xff{not json"


GARBAGE: dict[str, Callable[[str, str], tuple[int, bytes]]] = {
    "not-json": lambda method, path: (200, b"\x00\xff{"),
    "wrong-types": lambda method, path: (200, b'{"total":[],"free":7,"tasks":{},"lease_id":1,"facts":0}'),
    "server-error": lambda method, path: (500, b"oh"),
    "not-found": lambda method, path: (404, b"{}"),
    "huge": lambda method, path: (200, b"[" * (3 << 20)),
    "slow": slow_answer,
}


def test_a_dead_runners_tasks_run_elsewhere(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks, with the machine they were on."""
    folder = open_folder()
    runners = {"a": start_runner(ONE), "b": start_runner(ONE)}
    queue = start_queue(runners)
    queue.await_leases("a", "b")
    gate = Gate()
    id = queue.submit(["sh", "-c", f"echo . >> {folder}/runs; {gate.awaited}; echo end"])
    never_again = queue.submit(["sh", "-c", f"touch {folder}/other; {gate.awaited}"], retry_on_lost=False)
    await_that(lambda: all(queue.attempt(i)["state"] == "running" for i in (id, never_again)))
    for name in ("runs", "other"):  # "running" is said before the shell has come that far
        await_that((folder / name).exists, what=f"{name} to be written")
    first, other = queue.attempt(id)["worker"], queue.attempt(never_again)["worker"]
    assert {first, other} == {"a", "b"}
    runners[first].kill9()
    runners[other].kill9()
    lost = queue.wait(never_again)
    assert (lost["state"], lost["result"], lost["succeeded"]) == ("errored", "worker-lost", False)
    await_that(lambda: queue.attempt(id)["state"] == "queued", 30, "the other to be lost, too")
    gate.open()
    runners[other].start()
    attempt = queue.wait(id)
    assert attempt["state"] == "completed" and attempt["worker"] == other
    assert [(a["worker"], a["result"]) for a in attempt["attempts"]] == [(first, "worker-lost")]
    assert (folder / "runs").read_text() == ".\n.\n"
    assert queue.workers()[first]["state"] == "silent"


def test_a_runner_restarted_at_once_has_lost_its_tasks(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks that wait for ever at a runner that has forgotten them."""
    runner = start_runner(ONE)
    queue = start_queue({"w": runner}, {"lost_after": 60})
    gate = Gate()
    id = queue.submit(["sh", "-c", f"{gate.awaited}; echo end"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    runner.kill9()
    gate.open()
    runner.start()
    attempt = queue.wait(id)
    assert attempt["output"] == "end\n"
    assert [a["result"] for a in attempt["attempts"]] == ["worker-lost"]


def test_an_orderly_restart_of_a_runner_loses_no_task(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks, at each update of a runner: what it ends by its shutdown is run again."""
    runner = start_runner(ONE)
    queue = start_queue({"w": runner})
    gate = Gate()
    id = queue.submit(["sh", "-c", f"{gate.awaited}; echo end"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    runner.stop()
    gate.open()
    runner.start()
    attempt = queue.wait(id)
    assert attempt["state"] == "completed"
    assert len(attempt["attempts"]) == 1


def test_tasks_are_lost_once_by_a_stop(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks that were sent, again and again until the queue gave up on them, to a runner whose tasks systemd
    had begun to stop before it told the runner."""
    runner = start_runner(ROOMY)
    queue = start_queue({"w": runner})
    small = {"cores": 0.01, "memory_mb": 16}
    gate = Gate()
    ids = [queue.submit(["sh", "-c", f"{gate.awaited}; echo end"], resources=small) for _ in range(60)]
    await_that(lambda: all(queue.attempt(id)["state"] == "running" for id in ids))
    runner.stop()
    gate.open()
    runner.start()
    attempts = [queue.wait(id) for id in ids]
    assert {a["output"] for a in attempts} == {"end\n"}
    assert {len(a["attempts"]) for a in attempts} == {1}


def test_a_hanging_runner_is_lost_when_its_lease_is(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: "not twice": a task is run elsewhere while its first attempt may still be under a live lease; or
    what a runner does that comes back counts as well."""
    runners = {"a": start_runner(ONE), "b": start_runner(ONE)}
    queue = start_queue(runners, {"lease_ttl": 4, "lost_after": 1})
    queue.await_leases("a", "b")
    blocker = queue.submit(["sleep", "infinity"])
    id = queue.submit(["sh", "-c", "sleep 60; echo end"])
    await_that(lambda: all(queue.attempt(i)["state"] == "running" for i in (id, blocker)))
    first = queue.attempt(id)["worker"]
    last_renewal = time.monotonic()
    with stopped(runners[first].main_pid):
        await_that(lambda: queue.workers()[first]["state"] == "silent", 30, "the runner to be silent")
        await_that(lambda: queue.attempt(id)["state"] == "queued", 60, "its task to be lost")
        assert time.monotonic() - last_renewal > 2.5  # renewed at a third of the lease at the latest
        queue.delete(f"/api/v1/task/{blocker}")
        await_that(lambda: queue.attempt(id)["state"] == "running", 30, "it to run elsewhere")
    await_that(lambda: not runners[first].scopes(), 30, "the stale attempt to be stopped")
    attempt = queue.attempt(id)
    assert attempt["state"] == "running" and attempt["worker"] != first
    assert [a["result"] for a in attempt["attempts"]] == ["worker-lost"]
    await_that(lambda: queue.workers()[first]["state"] == "alive", 30, "the runner to be used again")
    assert queue.delete(f"/api/v1/task/{id}", params={"wait": 30}).json()["result"] == "stopped"


def test_a_drained_runner_gets_nothing_new(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: maintenance of single runners."""
    runners = {"a": start_runner(ONE), "b": start_runner(ONE)}
    queue = start_queue(runners)
    queue.await_leases("a", "b")
    runners["a"].put("/api/v1/drain", json={"drain": True})
    await_that(lambda: queue.workers()["a"]["state"] == "draining")
    assert {queue.run(["true"])["worker"] for _ in range(4)} == {"b"}
    runners["a"].put("/api/v1/drain", json={"drain": False})
    await_that(lambda: queue.workers()["a"]["state"] == "alive")
    ids = [queue.submit(["sleep", "infinity"]) for _ in range(2)]
    await_that(lambda: all(queue.attempt(id)["state"] == "running" for id in ids), what="both to run")
    assert {queue.attempt(id)["worker"] for id in ids} == {"a", "b"}


def test_strange_workers_do_not_disturb(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the whole queue, to one machine that answers nonsense, late, or not at all."""
    fakes = {name: FakeWorker(answer) for name, answer in GARBAGE.items()}
    good = start_runner(ROOMY)
    try:
        queue = start_queue({"good": good, "nobody": Runner({"port": 9}), **fakes})
        queue.await_leases("good")
        for _ in range(5):
            assert queue.run(["echo", "ok"])["worker"] == "good"
        states = {id: worker["state"] for id, worker in queue.workers().items()}
        assert states.pop("good") == "alive"
        assert set(states.values()) == {"silent"}, states
        before = {name: len(fake.requests) for name, fake in fakes.items()}
        time.sleep(3)  # how often it asks is what is looked at
        for name, fake in fakes.items():
            assert len(fake.requests) - before[name] < 20, (name, fake.requests[-5:])
    finally:
        for fake in fakes.values():
            fake.close()


def test_a_worker_that_fails_at_every_task(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks that were sent to a server that cannot run any; and the processor, to asking it again."""
    fake = FakeWorker(runs_nothing)
    good = start_runner(ONE)
    try:
        queue = start_queue({"fake": fake, "good": good})
        queue.await_leases("good", "fake")
        tasks = [queue.submit(["true"]) for _ in range(3)]
        assert {queue.wait(id, 60)["state"] for id in tasks} == {"completed"}
        assert {attempt["worker"] for id in tasks for attempt in [queue.attempt(id)]} == {"good"}
        assert "POST" in {method for method, path in fake.requests if path.startswith("/api/v1/task/")}
        assert len(fake.requests) < 120, fake.requests
    finally:
        fake.close()


def test_a_worker_removed_from_the_configuration(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: daggyd does not start, or its task waits for ever, when a worker goes out of the configuration."""
    a, b = start_runner(ONE), start_runner(ONE)
    queue = start_queue({"a": a})
    gate = Gate()
    id = queue.submit(["sh", "-c", f"{gate.awaited}; echo end"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    with stopped(a.main_pid):
        uncertain = queue.submit(["echo", "uncertain"], resources={"memory_mb": 1})
        queue.stop()
    a.kill9()
    gate.open()
    queue.config["workers"] = [{"id": "b", "url": b.url}]
    queue.start()
    assert queue.wait(id, 60)["worker"] == "b"
    assert queue.wait(uncertain, 60)["worker"] == "b"
