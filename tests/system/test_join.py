# SPDX-License-Identifier: LGPL-2.1-or-later
"""Workers that come and go while the queue runs: by requests, and by its configuration file."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from bedlib import KEPT, SLOWNESS, Gate, Queue, Runner, await_that, journal_of, open_folder, unit_property

Starter = Callable[..., Any]

ONE = {"capacity_overrides": {"cores": 1, "memory_mb": 1024}}
FOUR = {"capacity_overrides": {"cores": 4, "memory_mb": 1024}}


def join(queue: Queue, id: str, url: str, **fields: Any) -> Any:
    return queue.post("/api/v1/workers", json={"id": id, "url": url} | fields)


def leave(queue: Queue, id: str) -> Any:
    return queue.delete(f"/api/v1/workers/{id}")


def await_gone(queue: Queue, id: str) -> None:
    await_that(lambda: id not in queue.workers(), 30, f"{id} to be gone")


def database(queue: Queue) -> sqlite3.Connection:
    return sqlite3.connect(f"file:/var/lib/private/{queue.name}/tasks.db?mode=ro", uri=True)


def lease_of(runner: Runner) -> Any:
    return runner.get("/api/v1/lease").json()["lease"]


def test_who_joins_is_used_within_five_seconds(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the point of it, or the queue's restart for each new machine."""
    runner = start_runner(FOUR)
    queue = start_queue({}, {"sharing": {"enabled": True}})  # its share, too, has the new one at once
    pid = queue.main_pid
    began = time.monotonic()
    joined = join(queue, "new", runner.url)
    assert joined.status_code == 201
    assert (joined.json()["source"], joined.json()["leaving"]) == ("joined", False)
    attempt = queue.run(["true"])
    took = time.monotonic() - began
    assert (attempt["state"], attempt["worker"]) == ("completed", "new")
    assert took < 5 * SLOWNESS, took
    assert queue.main_pid == pid


def test_joining_again_changes_nothing(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks of whoever runs the same command twice."""
    runner = start_runner(FOUR)
    queue = start_queue({})
    assert join(queue, "new", runner.url).status_code == 201
    queue.await_leases("new")
    gate = Gate()
    id = queue.submit(["sh", "-c", gate.awaited])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    lease = lease_of(runner)["epoch"]
    again = join(queue, "new", runner.url + "/")
    assert again.status_code == 200 and again.json()["running"] == 1
    assert list(queue.workers()) == ["new"]
    gate.open()
    attempt = queue.wait(id)
    assert attempt["state"] == "completed" and not attempt["attempts"]
    assert lease_of(runner)["epoch"] == lease


@pytest.mark.local
def test_what_runs_ends_before_its_worker_is_gone(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks, or their results, of whoever takes a machine out."""
    runner, other = start_runner(FOUR), start_runner(FOUR)
    queue = start_queue({"stays": other})
    join(queue, "goes", runner.url)
    queue.await_leases("goes", "stays")
    queue.put("/api/v1/workers/stays", json={"disabled": True})
    folder = open_folder()
    script = f"echo . >> {folder}/runs; while [ ! -e {folder}/end ]; do sleep 0.1; done; echo done"
    id = queue.submit(["sh", "-c", script])
    await_that((folder / "runs").exists)
    for _ in range(2):
        left = leave(queue, "goes")
        assert left.status_code == 202 and left.json()["leaving"] is True
    queue.put("/api/v1/workers/stays", json={"disabled": False})
    assert queue.run(["true"])["worker"] == "stays"
    assert queue.workers()["goes"]["running"] == 1 and lease_of(runner)
    (folder / "end").touch()
    attempt = queue.wait(id)
    assert (attempt["state"], attempt["output"], attempt["worker"]) == ("completed", "done\n", "goes")
    await_gone(queue, "goes")
    assert (folder / "runs").read_text() == ".\n"
    assert lease_of(runner) is None
    assert runner.get("/api/v1/tasks").json()["tasks"] == []  # it has forgotten what the queue has
    assert leave(queue, "goes").status_code == 404
    with database(queue) as store:
        assert store.execute("SELECT worker_id FROM workers WHERE joined").fetchall() == []


def test_who_comes_back_while_it_leaves_stays(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a machine that was taken out by mistake."""
    runner = start_runner(FOUR)
    queue = start_queue({})
    join(queue, "new", runner.url)
    queue.await_leases("new")
    gate = Gate()
    id = queue.submit(["sh", "-c", gate.awaited])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    assert leave(queue, "new").status_code == 202
    waiting = queue.submit(["true"])
    assert queue.attempt(waiting)["state"] == "queued"
    assert join(queue, "new", runner.url).status_code == 200
    gate.open()
    assert queue.wait(waiting)["worker"] == "new"
    assert queue.wait(id)["state"] == "completed"
    queue.stop()
    queue.start()
    assert queue.workers()["new"]["leaving"] is False


@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_it_stays_over_a_restart(start_runner: Starter, start_queue: Starter, how: str) -> None:
    """Lost: all that joined, and what they run, with each upgrade or crash of the queue."""
    runner, goes = start_runner(FOUR), start_runner(FOUR)
    queue = start_queue({})
    join(queue, "stays", runner.url)
    join(queue, "goes", goes.url)
    queue.await_leases("stays", "goes")
    ids = [queue.submit(["sh", "-c", "sleep 6; echo end"]) for _ in range(2)]
    await_that(lambda: all(queue.attempt(id)["state"] == "running" for id in ids))
    queue.put("/api/v1/workers/stays", json={"disabled": True})
    leave(queue, "goes")
    getattr(queue, how)()
    queue.start()
    for id in ids:
        attempt = queue.wait(id)
        assert (attempt["state"], attempt["output"], attempt["attempts"]) == ("completed", "end\n", [])
    await_gone(queue, "goes")
    assert queue.workers()["stays"]["state"] == "disabled"


def test_the_files_cannot_be_changed_by_requests(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: what an administrator wrote, to whoever has a token."""
    runner, other = start_runner(FOUR), start_runner(FOUR)
    queue = start_queue({"mine": runner})
    assert queue.workers()["mine"]["source"] == "file"
    assert leave(queue, "mine").status_code == 409
    refused = join(queue, "mine", other.url)
    assert (refused.status_code, refused.json()["field"]) == (409, "/id")
    refused = join(queue, "other", runner.url)
    assert (refused.status_code, refused.json()["field"]) == (409, "/url")
    assert queue.workers().keys() == {"mine"}


def test_no_worker_is_let_in_that_takes_this_queue_for_another(start_queue: Starter) -> None:
    """Lost: the lease, to every other queue that calls itself 127.0.0.1."""
    queue = start_queue({})
    refused = join(queue, "far", "http://192.0.2.1:2504")
    assert (refused.status_code, refused.json()["field"]) == (409, "/url")
    assert "advertise" in refused.json()["detail"]
    named = start_queue({}, {"advertise": "queue.example:2503"})
    named.url = f"http://127.0.0.1:{named.config['port']}"
    assert join(named, "far", "http://192.0.2.1:2504").status_code == 201


def test_the_file_is_followed_when_it_is_read_anew(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: running tasks, when the list of workers is changed."""
    stays, goes, comes = (start_runner(ONE) for _ in range(3))
    queue = start_queue({"stays": stays, "goes": goes})
    queue.await_leases("stays", "goes")
    gate = Gate()
    ids = [queue.submit(["sh", "-c", f"{gate.awaited}; echo end"]) for _ in range(2)]
    await_that(lambda: all(queue.attempt(id)["state"] == "running" for id in ids))
    queue.reconfigure(workers=[{"id": "stays", "url": stays.url}, {"id": "comes", "url": comes.url}])
    assert queue.run(["true"])["worker"] == "comes"
    assert queue.workers()["goes"]["leaving"] is True
    gate.open()
    attempts = [queue.wait(id) for id in ids]
    assert {attempt["worker"] for attempt in attempts} == {"stays", "goes"}
    assert all(attempt["output"] == "end\n" and not attempt["attempts"] for attempt in attempts)
    await_gone(queue, "goes")
    assert lease_of(goes) is None


def test_a_file_with_a_mistake_changes_no_worker(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: all workers, by a typing error."""
    runner = start_runner(ONE)
    queue = start_queue({"mine": runner})
    queue.await_leases("mine")
    wrong: list[list[dict[str, str]]] = [
        [{"id": "other", "url": "nonsense"}],
        [{"id": "other", "url": "http://127.0.0.1:1", "token_file": "/nowhere"}],
    ]
    for workers in wrong:
        queue.reload(KEPT, json.dumps(queue.config | {"workers": workers}))
        assert queue.run(["true"])["worker"] == "mine"
        assert queue.workers().keys() == {"mine"}


@pytest.mark.local
def test_the_file_wins(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: knowing what counts where a worker both joined and is configured."""
    runner = start_runner(FOUR)
    queue = start_queue({})
    token = "t" * 32
    join(queue, "both", runner.url, token=token)
    queue.await_leases("both")
    id = queue.submit(["sleep", "2"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    queue.config["workers"] = [{"id": "both", "url": runner.url}]
    queue.reload()
    assert queue.workers()["both"]["source"] == "file"
    assert not queue.wait(id)["attempts"]
    with database(queue) as store:
        await_that(
            lambda: store.execute("SELECT joined, token FROM workers").fetchall() == [(0, None)],
            what="the token to be gone",
        )
    queue.stop()
    queue.start()
    assert queue.workers()["both"]["source"] == "file"
    queue.reconfigure(workers=[])
    await_gone(queue, "both")


def test_the_file_takes_a_url_from_who_joined(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: one runner under two ids, each of which stops what the other started."""
    runner = start_runner(FOUR)
    queue = start_queue({})
    join(queue, "joined", runner.url)
    queue.await_leases("joined")
    gate = Gate()
    id = queue.submit(["sh", "-c", f"{gate.awaited}; echo end"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    queue.reconfigure(workers=[{"id": "mine", "url": runner.url}])
    assert queue.workers()["joined"]["leaving"] is True
    gate.open()
    assert queue.wait(id)["output"] == "end\n"
    await_that(lambda: queue.workers().keys() == {"mine"}, 30, "one to make way for the other")
    assert queue.run(["true"])["worker"] == "mine"


def moved(queue: Queue, by: str, url: str) -> None:
    if by == "request":
        assert join(queue, "moves", url).status_code == 200
    else:
        queue.reconfigure(workers=[{"id": "moves", "url": url}])


@pytest.mark.parametrize("by", ["request", "file"])
def test_a_runner_at_another_address_keeps_its_tasks(
    start_runner: Starter, start_queue: Starter, by: str
) -> None:
    """Lost: what runs, when a machine gets another name."""
    runner = start_runner(FOUR)
    queue = start_queue({"moves": runner} if by == "file" else {})
    if by == "request":
        join(queue, "moves", runner.url)
    queue.await_leases("moves")
    id = queue.submit(["sh", "-c", "sleep 5; echo end"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    moved(queue, by, runner.url.replace("127.0.0.1", "localhost"))
    assert queue.run(["true"])["worker"] == "moves"
    attempt = queue.wait(id)
    assert (attempt["output"], attempt["attempts"]) == ("end\n", [])
    assert queue.workers()["moves"]["url"].startswith("http://localhost:")


@pytest.mark.parametrize("restart", [False, True])
def test_another_runner_at_the_id_runs_nothing_again_too_early(
    start_runner: Starter, start_queue: Starter, restart: bool
) -> None:
    """Lost: the promise that a task is not run again while it may run under a live lease."""
    first, second = start_runner(FOUR), start_runner(FOUR)
    queue = start_queue({}, {"lease_ttl": 4, "lost_after": 1})
    join(queue, "moves", first.url)
    queue.await_leases("moves")
    folder = open_folder()
    id = queue.submit(["sh", "-c", f"date +%s.%N >> {folder}/runs; sleep 60"], timeout=90)
    await_that((folder / "runs").exists)
    moved(queue, "request", second.url)
    refused = join(queue, "moves", "http://127.0.0.1:9")  # which would be a third place
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
    assert join(queue, "other", first.url).status_code == 409  # whose lease would keep the first one's alive
    if restart:
        queue.kill9()
        queue.start()
    assert queue.run(["true"])["worker"] == "moves"  # which the new one takes meanwhile
    lease_ended = await_that(lambda: lease_of(first) is None and time.time(), 30, "the lease to end")
    await_that(lambda: queue.attempt(id)["attempts"], 30, "the task to be given up")
    starts = await_that(lambda: len(lines := (folder / "runs").read_text().split()) == 2 and lines, 30)
    assert float(starts[1]) > lease_ended - 1.5, "it ran again while the lease was live"
    queue.delete(f"/api/v1/task/{id}?wait=30")


@pytest.mark.local
def test_a_token_is_shown_to_its_worker_only(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the key to a machine, to everybody who may look."""
    token = "s3cr3t" + "x" * 30
    path = Path(open_folder("/etc"), "token")
    path.write_text(token)
    path.chmod(0o644)
    runner = start_runner(FOUR | {"auth": {"token_file": str(path)}})
    queue = start_queue({})
    assert join(queue, "guarded", runner.url, token="w" * 32).status_code == 201
    await_that(lambda: "status 401" in queue.journal(), what="the wrong token to be seen")
    answer = join(queue, "guarded", runner.url, token=token)
    assert answer.status_code == 200
    assert queue.run(["true"])["worker"] == "guarded"
    refused = join(queue, "guarded", "nonsense", token=token)
    told = [answer.text, refused.text, queue.journal()] + [
        queue.get(path).text for path in ("/api/v1/workers", "/metrics", "/api/v1/queues", "/api/v1/capacity")
    ]
    assert not any(token in text or "s3cr3t" in text for text in told)
    queue.stop()
    queue.start()
    assert queue.run(["true"])["worker"] == "guarded"
    store = Path(f"/var/lib/private/{queue.name}")
    assert {oct(file.stat().st_mode & 0o077) for file in store.iterdir()} == {"0o0"}
    assert store.stat().st_mode & 0o077 == 0


SQL = "x'; DROP TABLE workers; --\"); DELETE FROM tasks; /*"


def test_sql_is_only_text(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: everything, to whoever may let a worker in."""
    runner = start_runner(FOUR)
    queue = start_queue({})
    assert join(queue, SQL, runner.url, token="';DROP_TABLE_workers;--").status_code == 201
    id = queue.submit(["true"])
    assert queue.wait(id)["worker"] == SQL
    assert queue.put("/api/v1/workers/" + quote(SQL, safe=""), json={"disabled": True}).status_code == 200
    assert join(queue, "u", "http://127.0.0.1:1'); DROP TABLE tasks; --").status_code == 400
    assert join(queue, "u", "http://127.0.0.1'--").status_code == 201
    queue.stop()
    queue.start()
    assert queue.workers().keys() == {SQL, "u"}
    assert queue.workers()[SQL]["state"] == "disabled"
    assert queue.attempt(id)["state"] == "completed"
    assert leave(queue, quote(SQL, safe="")).status_code == 202
    await_gone(queue, SQL)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": "a"},
        {"id": "", "url": "http://127.0.0.1:1"},
        {"id": "i" * 256, "url": "http://127.0.0.1:1"},
        {"id": "a", "url": "ftp://127.0.0.1"},
        {"id": "a", "url": "http://user@127.0.0.1"},
        {"id": "a", "url": "http://127.0.0.1/path"},
        {"id": "a", "url": "http://" + "h" * 1024},
        {"id": "a", "url": "http://127.0.0.1:1", "token": "short"},
        {"id": "a", "url": "http://127.0.0.1:1", "token": "t" * 1025},
        {"id": "a", "url": "http://127.0.0.1:1", "token": "0123456789abcdef\r\nX-Evil: 1"},
        {"id": "a", "url": "http://127.0.0.1:1", "token_file": "/etc/shadow"},
    ],
)
def test_what_is_no_worker_changes_nothing(start_queue: Starter, body: dict[str, str]) -> None:
    """Lost: the limits that the configuration file has."""
    queue = start_queue({})
    assert queue.post("/api/v1/workers", json=body).status_code == 400
    assert queue.workers() == {}


def test_who_has_no_right_gets_nowhere(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks and their results, to a runner of a stranger's."""
    path = Path(open_folder("/etc"), "token")
    path.write_text("q" * 40)
    path.chmod(0o644)
    runner = start_runner(FOUR)
    queue = start_queue({}, {"auth": {"token_file": str(path)}})
    for headers in ({}, {"Authorization": "Bearer " + "w" * 40}):
        queue.http.headers.update(headers)
        refused = join(queue, "stranger", runner.url)
        assert refused.status_code == 401 and "WWW-Authenticate" in refused.headers
        assert leave(queue, "stranger").status_code == 401
    queue.http.headers["Authorization"] = "Bearer " + "q" * 40
    assert queue.workers() == {}
    refused = queue.post(
        "/api/v1/workers", json={"id": "a", "url": runner.url}, headers={"Origin": "http://evil.example"}
    )
    assert refused.status_code == 403
    assert join(queue, "a", runner.url).status_code == 201


def test_many_come_and_go(start_queue: Starter) -> None:
    """Lost: memory or order, where a fleet comes up at once."""
    queue = start_queue({})
    fds = len(list(Path(f"/proc/{queue.main_pid}/fd").iterdir()))
    for turn in range(2):
        for i in range(300):
            assert join(queue, f"w{i}", f"http://127.0.0.1:{i + 1}").status_code == 201
        assert len(queue.workers()) == 300
        with ThreadPoolExecutor(8) as pool:  # several at once do not hold up each other
            left = [pool.submit(requests.delete, f"{queue.url}/api/v1/workers/w{i}") for i in range(300)]
            assert {answer.result().status_code for answer in left} == {202}
        await_that(lambda: not queue.workers(), 60, f"all to be gone in turn {turn}")
    await_that(
        lambda: len(list(Path(f"/proc/{queue.main_pid}/fd").iterdir())) <= fds + 20, 60, "sockets to be closed"
    )
    assert unit_property(queue.unit, "NRestarts") == "0", journal_of(queue.unit)


def test_queues_share_who_joined(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: fairness, or a worker in two hands, when a worker joins two queues."""
    runners = {"a": start_runner(FOUR), "b": start_runner(FOUR)}
    sharing = {
        "enabled": True,
        "hosts": ["127.0.0.1"],
        "port_range": {"from": 41880, "to": 41889},
        "poll_interval": 0.5,
        "cache_ttl": 30,
    }
    config = {"port_range": {"from": 41880, "to": 41889}, "sharing": sharing}
    queues = [start_queue({}, config) for _ in range(2)]

    def leased() -> list[set[str]]:
        return [{id for id, w in queue.workers().items() if (w["lease"] or {}).get("own")} for queue in queues]

    await_that(lambda: all(len(queue.get("/api/v1/queues").json()["queues"]) == 2 for queue in queues), 30)
    for queue in queues:
        for id, runner in runners.items():
            assert join(queue, id, runner.url).status_code == 201
    # Well before the split of before would have been made anew.
    await_that(lambda: sorted(map(sorted, leased())) == [["a"], ["b"]], 15, "each to have one")
    first = leased()[0].pop()
    leave(queues[0], first)
    await_gone(queues[0], first)
    await_that(lambda: leased()[1] >= {first}, 30, "the other to get it")
