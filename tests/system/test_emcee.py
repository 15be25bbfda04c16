# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyd among Emcee's queues: the requests are theirs, byte by byte, and a queue of theirs answers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bedlib import SLOWNESS, Queue, await_that
from emcee_queue import EmceeQueue, Raw, emcee_error, emcee_json
from sharinglib import (
    BOUND,
    LEASE,
    SCAN,
    address,
    ask,
    await_sizes,
    leased,
    permitted,
    sharing_config,
    some_runners,
)

Starter = Callable[..., Any]

PATHS = ["/queueVersion", "/workerIds", "/workerStatus"]
ASK_SHARE = {
    "queueInfo": {"queueAddress": "mac.example:41000", "queueVersion": "19.0.0"},
    "workerIds": ["w0", "w1"],
}


def exchange(queue: Queue, method: str, target: str, body: bytes, *headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request as URLSession writes it, and its answer."""
    host, port = address(queue).split(":")
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: {host}:{port}",
        "Accept: */*",
        "Content-Type: application/json",
        "Connection: keep-alive",
        "User-Agent: EmceeBinary (unknown version) CFNetwork/1240.0.4 Darwin/20.6.0",
        "Accept-Language: en-us",
        "Accept-Encoding: gzip, deflate",
        f"Content-Length: {len(body)}",
    ]
    names = {header.partition(":")[0] for header in headers}
    lines = [line for line in lines if line.partition(":")[0] not in names] + [h for h in headers if h[-1] != ":"]
    with socket.create_connection((host, int(port)), timeout=30 * SLOWNESS) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        with connection.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            found: dict[str, str] = {}
            while line := stream.readline().strip():
                name, _, value = line.decode().partition(":")
                found[name.lower()] = value.strip()
            return status, found, stream.read(int(found.get("content-length", "0")))


def post(queue: Queue, path: str, value: Any, *headers: str) -> tuple[int, dict[str, str], bytes]:
    return exchange(queue, "POST", path, emcee_json(value), *headers)


@pytest.fixture
def queue(start_runner: Starter, start_queue: Starter) -> Queue:
    """A queue of two workers that is alone."""
    queue: Queue = start_queue(some_runners(start_runner, 2), sharing_config(version="19.0.0"))
    queue.await_leases("w0", "w1")
    return queue


def test_what_emcee_asks_is_answered_in_its_way(queue: Queue) -> None:
    """Lost: Emcee's queues would see no queue here, and use all its workers."""
    answers = {
        "/queueVersion": {"responseType": "queueVersion", "version": "19.0.0"},
        "/workerIds": {"workerIds": ["w0", "w1"]},
        "/workerStatus": {
            "workerAliveness": [
                "w0",
                {
                    "registered": True,
                    "disabled": False,
                    "silent": False,
                    "workerUtilizationPermission": "allowedToUtilize",
                    "bucketIdsBeingProcessed": [],
                },
            ]
        },
    }
    for path, expected in answers.items():
        status, headers, body = post(queue, path, {})
        assert (status, headers["content-type"]) == (200, "application/json")
        found = json.loads(body)
        if path == "/workerStatus":
            assert found["workerAliveness"][2] == "w1"
            found["workerAliveness"] = found["workerAliveness"][:2]
        assert found == expected
    own = {"queueAddress": address(queue), "queueVersion": "19.0.0"}
    status, _, body = post(queue, "/workersToUtilize", {"queueInfo": own, "workerIds": ["w1", "w0", "w1"]})
    assert (status, json.loads(body)) == (200, {"caseId": "workersToUtilize", "workerIds": ["w0", "w1"]})
    for status_word in ("disabled", "enabled"):
        status, _, body = post(queue, "/toggleWorkersSharing", {"status": status_word})
        assert (status, json.loads(body)) == (200, {})


def test_running_tasks_are_emcees_buckets(queue: Queue) -> None:
    """Lost: Emcee's tools would not show what a worker is busy with."""
    id = queue.submit(["sleep", "infinity"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    listed = json.loads(post(queue, "/workerStatus", {})[2])["workerAliveness"]
    status = dict(zip(listed[::2], listed[1::2]))
    assert sorted(sum((worker["bucketIdsBeingProcessed"] for worker in status.values()), [])) == [id]
    assert queue.put("/api/v1/workers/w0", json={"disabled": True}).ok
    listed = json.loads(post(queue, "/workerStatus", {})[2])["workerAliveness"]
    assert listed[0] == "w0" and listed[1]["disabled"] is True
    queue.delete(f"/api/v1/task/{id}", params={"wait": 20})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_method_the_slash_and_the_query_do_not_matter(
    shared_queue: Queue, path: str, method: str
) -> None:
    """Lost: clients of Emcee that are written a little otherwise."""
    expected = json.loads(post(shared_queue, path, {})[2])
    for target in (path, f"{path}/", f"{path}?a=b&a=b&%zz", f"{path}/?x"):
        status, _, body = exchange(shared_queue, method, target, b"{}")
        assert (target, status) == (target, 200)
        assert json.loads(body) == expected
    for content in ("Content-Type:", "Content-Type: text/html", "Content-Type: x"):
        assert exchange(shared_queue, method, path, b"{}", content)[0] == 200


@pytest.fixture(scope="module")
def shared_queue() -> Any:
    """A queue without workers, for tests that change nothing."""
    with Queue({}, sharing_config(version="19.0.0")) as queue:
        yield queue


def error_text(path: str) -> str:
    return f'Failed to process request with path "{path}", error: "'


@pytest.mark.parametrize(
    ("path", "body"),
    [(path, body) for path in [*PATHS, "/workersToUtilize", "/toggleWorkersSharing"] for body in (b"", b"{", b"\xff")]
    + [
        ("/workersToUtilize", emcee_json(body))
        for body in (
            {},
            [],
            None,
            {"queueInfo": ASK_SHARE["queueInfo"]},
            {"workerIds": ["a"]},
            ASK_SHARE | {"queueInfo": None},
            ASK_SHARE | {"workerIds": "a"},
            ASK_SHARE | {"workerIds": [1]},
            ASK_SHARE | {"queueInfo": {"queueAddress": "mac.example", "queueVersion": "1"}},
            ASK_SHARE | {"queueInfo": {"queueAddress": "a:b:1", "queueVersion": "1"}},
            ASK_SHARE | {"queueInfo": {"queueAddress": "a:1"}},
        )
    ]
    + [("/toggleWorkersSharing", emcee_json(body)) for body in ({}, {"status": "on"}, {"status": True})],
)
def test_what_is_wrong_is_400_in_emcees_words(shared_queue: Queue, path: str, body: bytes) -> None:
    """Lost: what an operator of Emcee finds in the log."""
    status, headers, text = exchange(shared_queue, "POST", path, body)
    assert (status, headers["content-type"]) == (400, "text/plain")
    assert text.decode().startswith(error_text(path)) and text.endswith(b'"')


def test_a_chunked_body_is_none_to_emcee_but_a_body_here(shared_queue: Queue) -> None:
    """Lost: nothing of Emcee's, whose clients always send a length; but curl and others may not."""
    status, _, body = exchange(
        shared_queue, "POST", "/queueVersion", b"2\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length:"
    )
    assert (status, json.loads(body)["version"]) == (200, "19.0.0")


def test_paths_that_are_not_served(shared_queue: Queue) -> None:
    """Lost: Emcee's workers that are sent here must hear that this is no queue for them."""
    for path in ("/registerWorker", "/getBucket", "/reportAlive", "/queueVersion/x", "/queueversion"):
        assert post(shared_queue, path, {})[0] == 404


def test_unknown_keys_and_odd_addresses_as_emcee_takes_them(shared_queue: Queue) -> None:
    """Lost: newer versions of Emcee, which may say more."""
    for given in ("mac.example:41000", ":mac.example:041000:", "::1:42"):
        info = {"queueAddress": given, "queueVersion": "19.0.0", "more": {"deep": [None]}}
        status, _, body = post(shared_queue, "/workersToUtilize", {"queueInfo": info, "workerIds": ["a"], "x": 1})
        assert (status, json.loads(body)["workerIds"]) == (200, [])


def test_an_emcee_queue_gets_its_share(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: workers that are shared with a queue of Emcee's would be used by both."""
    config = sharing_config(version="2")
    workers = some_runners(start_runner, 4)
    theirs = {"theirs1", "theirs2"}
    with EmceeQueue(config["port_range"]["to"], "1", [*workers, *sorted(theirs)]) as member:
        queue = start_queue(workers, config)
        await_sizes([queue], [3])
        info = {"queueAddress": member.address, "queueVersion": "1"}
        status, _, body = post(queue, "/workersToUtilize", {"queueInfo": info, "workerIds": member.workers})
        share = json.loads(body)["workerIds"]
        assert status == 200 and theirs < set(share)
        assert set(share) | leased(queue) == {*workers, *theirs} and not set(share) & leased(queue)
        unknown = {"queueAddress": f"mac.example:{config['port_range']['to']}", "queueVersion": "1"}
        asked = {"queueInfo": unknown, "workerIds": member.workers}
        assert json.loads(post(queue, "/workersToUtilize", asked)[2])["workerIds"] == []
        assert "mac.example" in queue.journal()
        for path, headers, content in member.calls:
            assert path in ("/queueVersion", "/workerIds")
            assert headers["content-length"] == str(len(content)) and json.loads(content) == {}
            assert headers["content-type"] == "application/json"

        # It is there, but does not tell its workers: what it said last is taken.
        member.answers["/workerIds"] = lambda _: None
        n_before = member.count("/workerIds")
        await_that(lambda: member.count("/workerIds") >= n_before + 2, what="two more scans")
        assert len(leased(queue)) == 3
    await_sizes([queue], [4])


def test_an_emcee_queue_without_strict_gets_what_emcee_would_give(
    start_runner: Starter, start_queue: Starter
) -> None:
    """Lost: the promise of "strict": false, also for those that are not found."""
    config = sharing_config({"strict": False}, version="2")
    with EmceeQueue(config["port_range"]["to"], "1", ["w0", "w1", "w2"]) as member:
        queue = start_queue(some_runners(start_runner, 3), config)
        await_sizes([queue], [2])
        info = {"queueAddress": member.address, "queueVersion": "1"}
        asked = {"queueInfo": info, "workerIds": member.workers}
        assert json.loads(post(queue, "/workersToUtilize", asked)[2])["workerIds"] == ["w1"]
        asked["queueInfo"] = info | {"queueAddress": "mac.example:1"}
        assert sorted(json.loads(post(queue, "/workersToUtilize", asked)[2])["workerIds"]) == member.workers


def test_an_emcee_master_is_obeyed(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: queues of Emcee's that were there first; and, when their answers fail, the workers in use."""
    config = sharing_config(version="19.0.0")
    with EmceeQueue(config["port_range"]["to"], "9", ["w0", "w1", "w2"]) as master:
        share = ["w2", "w0", "theirs", "w0"]
        good = lambda _: {"caseId": "workersToUtilize", "workerIds": share}  # noqa: E731
        master.answers["/workersToUtilize"] = good
        queue = start_queue(some_runners(start_runner, 3), config)
        await_that(lambda: leased(queue) == {"w0", "w2"}, what="what the master grants")
        asked = next(body for path, _, body in master.calls if path == "/workersToUtilize")
        assert json.loads(asked) == {
            "queueInfo": {"queueAddress": address(queue), "queueVersion": "19.0.0"},
            "workerIds": ["w0", "w1", "w2"],
        }
        shown = queue.get("/api/v1/queues").json()
        assert (shown["self"], shown["master"]) == (address(queue), master.address)

        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        bad: list[Any] = [
            None,
            Raw(b"garbage\r\n\r\n"),
            Raw(head + b"{"),
            Raw(head + b'{"caseId":"workersToUtilize"}'),
            Raw(head + b'{"caseId":"workersToUtilize","workerIds":{}}'),
            Raw(head.replace(b"200 OK", b"500 No") + b'{"caseId":"workersToUtilize","workerIds":[]}'),
            emcee_error("/workersToUtilize", "busy"),
        ]
        for answer in bad:
            n_before = master.count("/workersToUtilize")
            master.answers["/workersToUtilize"] = lambda _, answer=answer: answer
            await_that(lambda: master.count("/workersToUtilize") >= n_before + 2, what="two more questions")
            assert permitted(queue) == {"w0", "w2"}, answer
        until = time.monotonic() + LEASE + 1
        while time.monotonic() < until:  # renewed all the while
            assert leased(queue) == {"w0", "w2"}
            time.sleep(0.2)

        share[:] = ["w1"]
        master.answers["/workersToUtilize"] = good
        await_that(lambda: leased(queue) == {"w1"}, what="the new share")
    await_that(lambda: len(leased(queue)) == 3, BOUND + SCAN, "all, as the only one there is")


def test_slow_queues_hold_up_no_answer(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: while one queue is slow, the others' questions would time out before the master's scan ends."""
    config = sharing_config()
    with EmceeQueue(config["port_range"]["to"], "0", ["w0", "w1"]) as slow:
        slow.delay = 2
        workers = some_runners(start_runner, 3)
        queues = [start_queue(workers, config | {"version": version}) for version in ("2", "1")]
        await_sizes(queues, [1, 1], 30)


def test_an_answer_from_before_a_toggle_counts_for_nothing(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: who switches sharing off and on would get back what was granted before."""
    config = sharing_config({"poll_interval": 60}, version="1")
    released, is_slow = threading.Event(), threading.Event()
    with EmceeQueue(config["port_range"]["to"], "9", ["w0", "w1"]) as master:
        version = master.answers["/queueVersion"]

        def late(_: Any) -> Any:
            released.wait(2.5)
            return {"caseId": "workersToUtilize", "workerIds": ["w0"]}

        def slow_version(body: Any) -> Any:
            time.sleep(1 if is_slow.is_set() else 0)
            return version(body)

        master.answers |= {"/queueVersion": slow_version, "/workersToUtilize": late}
        queue = start_queue(some_runners(start_runner, 2), config)
        await_that(lambda: master.count("/workersToUtilize") == 1, what="the first question")
        is_slow.set()
        for word in ("disabled", "enabled"):
            assert ask(queue.url, "/toggleWorkersSharing", {"status": word}).ok
        n_versions = master.count("/queueVersion")
        await_that(lambda: master.count("/queueVersion") >= n_versions, what="the search to begin")
        master.answers["/workersToUtilize"] = lambda _: None  # from the second question on
        released.set()
        await_that(lambda: master.count("/workersToUtilize") == 2, what="the second question")
        assert permitted(queue) == {"w0", "w1"}


def test_emcee_queues_are_kept_out_by_a_token(start_runner: Starter, start_queue: Starter, tmp_path: Path) -> None:
    """Lost: a queue that is closed to strangers would be open by its second door; or, among queues with the same
    token, sharing."""
    token = "a-token-of-32-characters-or-more-0123456789"
    file = tmp_path / "token"
    file.write_text(token)
    credential = {"LoadCredential": f"daggyd.token:{file}"}
    config = sharing_config()
    workers = some_runners(start_runner, 2)
    queues = []
    for _ in range(2):
        queue = Queue(workers, config, credential)
        queues.append(queue)
        queue.http.headers["Authorization"] = f"Bearer {token}"
    with queues[0].start(), queues[1].start():
        await_sizes(queues, [1, 1])
        for path in PATHS:
            assert post(queues[0], path, {})[0] == 401
            assert post(queues[0], path, {}, f"Authorization: Bearer {token}")[0] == 200
        with EmceeQueue(config["port_range"]["to"], "0", ["w0", "w1"]) as member:
            await_that(lambda: member.count("/workerIds") > 0, what="a scan")
            assert sum(len(leased(queue)) for queue in queues) <= 2
