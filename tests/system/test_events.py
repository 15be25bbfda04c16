# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watching a runner by its events."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bedlib import ROOMY, SLOWNESS, SMALL_QUARANTINE, Runner, await_that, open_fds, settled_fds
from probelib import seconds_for

KEPT = 1024
LEASE = {"queue": "queue.example:2503", "version": "1", "ttl": 600}


class Event(NamedTuple):
    type: str
    id: int
    data: Any

    @property
    def story(self) -> tuple[str, str, str | None]:
        return self.data["task_id"], self.data["state"], self.data["result"]


class Listener:
    """A client of the event stream, in step with the server: it is listening once it is made."""

    def __init__(self, runner: Runner, last_id: Any = None) -> None:
        port = runner.config["port"]
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60 * SLOWNESS)
        headers = {} if last_id is None else {"Last-Event-ID": str(last_id)}
        self._connection.request("GET", "/api/v1/events", headers=headers)
        self.answer = self._connection.getresponse()
        assert self.answer.status == 200
        if last_id is None:
            assert self.line().startswith(":")
            assert self.line() == ""

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()
        self._connection.close()

    def line(self) -> str:
        line = self.answer.readline().decode()
        assert line.endswith("\n"), f"the stream ended with {line!r}"
        return line.removesuffix("\n")

    def next(self) -> Event:
        while (line := self.line()).startswith(":") or line == "":
            pass
        fields = []
        while line:
            name, colon, value = line.partition(": ")
            assert colon
            fields.append((name, value))
            line = self.line()
        assert [name for name, _ in fields] == ["event", "id", "data"]
        (_, type), (_, id), (_, data) = fields
        return Event(type, int(id), json.loads(data))

    def next_of(self, type: str) -> Event:
        while (event := self.next()).type != type:
            pass
        return event

    def rest(self) -> str:
        """All that comes until the server ends the stream, which it must do by its last chunk."""
        return self.answer.read().decode()

    def events(self) -> Iterator[Event]:
        while True:
            yield self.next()


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


def n_sockets(fds: dict[int, str]) -> int:
    return sum(target.startswith("socket:") for target in fds.values())


def renew_many(runner: Runner, n: int) -> None:
    """Makes N lease events, as fast as one connection can."""
    lease_id = runner.post("/api/v1/lease", json=LEASE).json()["lease_id"]
    request = f"PUT /api/v1/lease/{lease_id} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", runner.config["port"]), 60 * SLOWNESS) as connection:
        answers = http_answers(connection)
        for _ in range(n - 1):
            connection.sendall(request.encode())
            assert next(answers) == 200


def http_answers(connection: socket.socket) -> Iterator[int]:
    """The statuses of answers with a Content-Length, one after the other."""
    with connection.makefile("rb") as file:
        while status := file.readline():
            length = 0
            while (line := file.readline().strip()) != b"":
                name, _, value = line.lower().partition(b":")
                length = int(value) if name == b"content-length" else length
            file.read(length)
            yield int(status.split()[1])


def test_a_listener_hears_at_once_that_it_is_connected(runner: Runner) -> None:
    """Lost: a client could not tell a quiet runner from a broken connection."""
    start = time.monotonic()
    with Listener(runner) as listener:
        assert time.monotonic() - start < 5 * SLOWNESS
        assert listener.answer.getheader("Content-Type") == "text/event-stream"


@pytest.mark.plain
def test_a_quiet_stream_shows_every_15_seconds_that_it_lives(runner: Runner) -> None:
    """Lost: proxies and clients would give up on a runner on which nothing happens."""
    with Listener(runner) as listener:
        start = time.monotonic()
        while not listener.line().startswith(":"):
            pass
        assert 5 < time.monotonic() - start < 15 + 3 * SLOWNESS


def test_the_story_of_a_task_is_told_in_order(runner: Runner) -> None:
    """Lost: dashboards and scripts that follow tasks."""
    with Listener(runner) as listener:
        for command, end in ((["true"], ("completed", "success")), (["false"], ("errored", "exit-code"))):
            id = runner.submit(command)
            events = [listener.next_of("task") for _ in range(3)]
            assert [event.story for event in events] == [
                (id, "queued", None),
                (id, "running", None),
                (id, *end),
            ]
            assert {event.data["unit"] for event in events} == {runner.attempt(id)["unit"]}


def test_the_end_of_a_task_that_never_ran_is_told(start_runner: Callable[..., Runner]) -> None:
    """Lost: who waits for events would wait for a canceled or unstartable task for ever."""
    runner = start_runner({"capacity_overrides": {"cores": 1, "memory_mb": 4096}})
    first = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(first)["start_time"], what="the task that takes all capacity")
    with Listener(runner) as listener:
        second = runner.submit(["true"])
        runner.delete(f"/api/v1/task/{second}")
        stories = [listener.next_of("task").story for _ in range(2)]
        assert stories == [(second, "queued", None), (second, "killed", "canceled")]
        runner.delete(f"/api/v1/task/{first}?wait=60")
        bad = runner.submit(["/no/such/program"])
        while (story := listener.next_of("task").story)[:2] != (bad, "errored"):
            pass
        assert story[2] == "exec-failed"


def test_ids_only_grow_also_over_a_restart(runner: Runner) -> None:
    """Lost: a client that comes back would miss events, or take old ones for new."""
    ids = []
    for _ in range(2):
        with Listener(runner) as listener:
            runner.run(["true"])
            ids += [listener.next().id for _ in range(3)]
        runner.stop()
        runner.start()
    assert ids == sorted(set(ids))


def test_capacity_that_was_taken_and_given_back_is_told(runner: Runner) -> None:
    """Lost: queues would have to ask for the capacity all the time."""
    idle = runner.get("/api/v1/capacity").json()
    with Listener(runner) as listener:
        id = runner.submit(["sleep", "infinity"], resources={"cores": 2})
        while (event := listener.next_of("capacity")).data["free"]["cores"] != idle["free"]["cores"] - 2:
            pass
        assert event.data["total"] == idle["total"]
        assert event.data["tasks"] == {"queued": 0, "running": 1}
        taken = event.data["revision"]
        assert taken > idle["revision"]
        runner.delete(f"/api/v1/task/{id}")
        while (event := listener.next_of("capacity")).data["free"] != idle["free"]:
            pass
        assert event.data["revision"] > taken
        runner.put("/api/v1/drain", json={"drain": True})
        while not listener.next_of("capacity").data["draining"]:
            pass


def test_each_step_of_a_lease_is_told(runner: Runner) -> None:
    """Lost: queues would hear only by asking that a runner has become free."""
    with Listener(runner) as listener:
        lease = runner.post("/api/v1/lease", json=LEASE).json()
        granted = listener.next_of("lease").data["lease"]
        assert (granted["queue"], granted["epoch"]) == (LEASE["queue"], 1)
        runner.put(f"/api/v1/lease/{lease['lease_id']}")
        assert listener.next_of("lease").data["lease"]["expires"] > granted["expires"]
        runner.delete(f"/api/v1/lease/{lease['lease_id']}")
        assert listener.next_of("lease").data == {"lease": None}
        runner.post("/api/v1/lease", json=LEASE | {"ttl": 1})
        assert listener.next_of("lease").data["lease"]["epoch"] == 2
        assert listener.next_of("lease").data == {"lease": None}  # expired


def test_a_client_that_comes_back_misses_nothing_and_hears_nothing_twice(runner: Runner) -> None:
    """Lost: any client with a connection that can break."""
    n_tasks = 25
    seen: list[Event] = []
    with Listener(runner) as complete:
        last: int | None = None
        ids = [runner.submit(["true"]) for _ in range(n_tasks)]
        all_events: list[Event] = []
        ended = 0
        while ended < n_tasks:
            all_events.append(complete.next())
            ended += all_events[-1].type == "task" and all_events[-1].data["result"] is not None
        last = all_events[0].id - 1
        for n in (1, 2, 3, 5, 8, 13, 21, 1000):
            with Listener(runner, last) as interrupted:
                for _ in range(min(n, len(all_events) - len(seen))):
                    seen.append(interrupted.next())
                last = seen[-1].id
    assert seen == all_events
    for id in ids:
        states = [event.data["state"] for event in seen if event.data.get("task_id") == id]
        assert states == ["queued", "running", "completed"]


def test_a_client_that_comes_back_gets_what_happened_meanwhile(runner: Runner) -> None:
    """Lost: the same with nothing of it heard by anybody at the time."""
    with Listener(runner) as listener:
        runner.run(["true"])
        last = [listener.next_of("task") for _ in range(3)][-1].id
    id = runner.submit(["false"])
    runner.wait(id)
    with Listener(runner, last) as listener:
        stories = [listener.next_of("task").story for _ in range(3)]
    assert stories == [(id, "queued", None), (id, "running", None), (id, "errored", "exit-code")]


def test_the_last_1024_are_kept(runner: Runner) -> None:
    """Lost: the documented time that a client may be away, or a bound on what events cost."""
    renew_many(runner, KEPT + 500)
    with Listener(runner) as listener:
        runner.delete(f"/api/v1/lease/{runner.post('/api/v1/lease', json=LEASE).json()['lease_id']}")
        while (event := listener.next_of("lease")).data["lease"]:
            pass
        newest = event.id
    with Listener(runner, 1) as listener:
        ids = [listener.next().id]
        while ids[-1] != newest:
            ids.append(listener.next().id)
    assert ids == list(range(newest - KEPT + 1, newest + 1))


@pytest.mark.parametrize("last_id", ["x", "-1", 1 << 63, "99999999999999999999999", "1 2"])
def test_an_id_that_was_never_given_begins_with_the_oldest_kept(runner: Runner, last_id: Any) -> None:
    """Lost: what a client of an earlier daggyr has missed of this one; or it could not connect."""
    id = runner.run(["true"])["task_id"]
    with Listener(runner, last_id) as listener:
        assert listener.next_of("task").story == (id, "queued", None)


def test_an_empty_id_is_none(runner: Runner) -> None:
    """Lost: clients that send the header always, and get what they had heard before."""
    runner.run(["true"])
    with Listener(runner, "") as listener:
        assert listener.line().startswith(":")
        id = runner.submit(["true"])
        assert listener.next_of("task").story == (id, "queued", None)


def test_many_listeners_all_hear_the_same(runner: Runner) -> None:
    """Lost: more than a few people or programs that watch a runner."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(runner)) for _ in range(200)]
        ids = [runner.submit(["true"]) for _ in range(5)]
        told = set()
        for listener in listeners:
            events = [listener.next_of("task") for _ in range(15)]
            told.add(tuple((event.id, *event.story) for event in events))
        assert len(told) == 1
        assert {story[1] for story in told.pop()} == set(ids)


def test_streams_end_in_order_when_daggyr_does(runner: Runner) -> None:
    """Lost: trust in the last events, the ends of tasks at an update, behind a stream that looks cut off."""
    task = runner.submit(["sleep", "infinity"])
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(runner)) for _ in range(20)]
        runner.stop()
        for listener in listeners:
            assert f'"task_id":"{task}"' in listener.rest()


def test_quiet_streams_end_in_order_as_well(runner: Runner) -> None:
    """Lost: the difference between a daggyr that was stopped and one that broke down."""
    with Listener(runner) as quiet:
        runner.stop()
        quiet.rest()


@pytest.mark.parametrize("last_id", ["9999999999999999", "18446744073709551616", "an-id-of-another-server", "-1"])
def test_who_comes_with_an_unknown_id_misses_nothing(runner: Runner, last_id: str) -> None:
    """Lost: what a restarted daggyr has told already, whenever its clock was set back before."""
    missed = runner.run(["true"])["task_id"]
    with Listener(runner, last_id) as listener:
        runner.run(["true"])
        assert listener.next_of("task").data["task_id"] == missed


def test_listeners_that_leave_are_forgotten(runner: Runner) -> None:
    """Lost: each page that was closed would cost a descriptor for as long as daggyr runs."""
    runner.run(["true"])
    before = n_sockets(settled_fds(runner.main_pid))
    listeners = [Listener(runner) for _ in range(50)]
    assert n_sockets(open_fds(runner.main_pid)) == before + 50
    for listener in listeners:
        listener.__exit__()
    await_that(lambda: n_sockets(open_fds(runner.main_pid)) <= before, timeout=5, what="the listeners to be forgotten")


def rss(runner: Runner) -> int:
    for line in Path(f"/proc/{runner.main_pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@pytest.mark.serial
def test_a_listener_that_never_reads_harms_nobody(start_runner: Callable[..., Runner]) -> None:
    """Lost: one sleeping laptop would take the events of all others, or the memory of the host."""
    runner = start_runner(properties=SMALL_QUARANTINE)
    sleeper = socket.socket()
    sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sleeper.connect(("127.0.0.1", runner.config["port"]))
    sleeper.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    heard: list[int] = []

    def listen(listener: Listener) -> None:
        for event in listener.events():
            heard.append(event.id)
            if event.data == {"lease": None}:
                return

    long = {"queue": "q" * 250 + ":1", "version": "v" * 250, "ttl": 600}
    lease = f"/api/v1/lease/{runner.post('/api/v1/lease', json=long).json()['lease_id']}"

    def renew() -> None:
        assert runner.http.put(runner.url + lease, timeout=20 * SLOWNESS).status_code == 200

    with Listener(runner) as listener, sleeper:
        thread = threading.Thread(target=listen, args=[listener])
        thread.start()
        before = rss(runner)
        slowest, pid = 0.0, runner.main_pid
        for n in range(8000):  # 5 MB of events: more than the kernel takes for one connection
            slowest = max(slowest, seconds_for(renew, pid))
            if n % 200 == 0:
                await_that(lambda: len(heard) >= n, what="the listener that reads")
        assert runner.get("/ready").status_code == 200
        runner.delete(lease)
        thread.join(60 * SLOWNESS)
        assert not thread.is_alive()
        assert heard == list(range(heard[0], heard[0] + len(heard)))
        assert len(heard) >= 8000
        assert rss(runner) - before < (8 << 20) * SLOWNESS
        assert slowest < SLOWNESS
