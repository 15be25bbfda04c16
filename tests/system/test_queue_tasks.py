# SPDX-License-Identifier: LGPL-2.1-or-later
"""What clients of daggyd can ask for: fields, retries, priorities, lists, events, outputs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from bedlib import (
    ROOMY,
    SLOWNESS,
    SMALL_QUARANTINE,
    Gate,
    Queue,
    await_that,
    free_cores,
    load,
    open_folder,
    task_id,
)

Starter = Callable[..., Any]

MIB = 1024 * 1024
NOBODY = {"workers": [{"id": "w", "url": "http://127.0.0.1:9"}]}
ONE = {"capacity_overrides": {"cores": 1, "memory_mb": 4096}}


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def test_earlier_attempts_are_small(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a gigabyte in the store, and in an answer, for one task of a large command that is tried a thousand times."""
    queue = start_queue({"w": start_runner(ROOMY)})
    command = ["sh", "-c", "exit 7", "x" * 100_000]
    id = queue.submit(command, retry={"max": 5, "backoff": 0}, labels={"a": "b" * 255})
    attempt = queue.wait(id)
    assert attempt["command"] == command and attempt["labels"] == {"a": "b" * 255}
    assert [earlier["exit_code"] for earlier in attempt["attempts"]] == [7] * 5
    assert {earlier["worker"] for earlier in attempt["attempts"]} == {"w"}
    assert all(earlier["start_time"] and earlier["task_id"] == id for earlier in attempt["attempts"])
    assert len(json.dumps(attempt["attempts"])) < 10_000


def test_every_field_reaches_the_runner(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: what a task asks for, on its way through the queue."""
    runner = start_runner(ROOMY)
    queue = start_queue({"w": runner})
    folder = open_folder()
    script = "cat; echo $COLOR; umask; pwd; touch made"
    attempt = queue.run(
        ["sh", "-c", script],
        stdin="input\n",
        environment={"COLOR": "blü"},
        umask="0027",
        working_directory=str(folder),
        resources={"cores": 0.5, "memory_mb": 100},
        labels={"a": "b"},
        tasks_max=50,
        properties={"CPUWeight": 50},
        priority=7,
        retry={"max": 2, "backoff": 1},
    )
    assert attempt["output"] == f"input\nblü\n0027\n{folder}\n", attempt
    assert attempt["labels"] == {"a": "b"}
    assert attempt["resources"] == {"cores": 0.5, "memory_mb": 100}
    assert attempt["priority"] == 7
    notes = " ".join(attempt["executor"])
    assert "CPUQuota=50%" in notes and "MemoryMax=100M" in notes
    timed_out = queue.run(["sh", "-c", "trap '' TERM; sleep 60"], timeout=0.3, grace=0.2)
    assert (timed_out["state"], timed_out["result"]) == ("killed", "timeout")


def test_bytes_reach_the_command(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: an archive, or a picture, that a client sends along."""
    sent = bytes(range(256)) * 100
    for daemon in (start_runner(ROOMY), start_queue({"w": start_runner(ROOMY)})):
        attempt = daemon.run(["sha256sum"], stdin_base64=base64.b64encode(sent).decode())
        assert attempt["output"].split()[0] == hashlib.sha256(sent).hexdigest(), attempt


def test_what_the_runner_refuses_is_said(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the reason why a task does not run; it would be tried for ever."""
    queue = start_queue({"w": start_runner(ROOMY)})
    attempt = queue.run(["true"], user="nobody-has-this-name")
    assert (attempt["state"], attempt["result"]) == ("errored", "start-failed")
    assert "nobody-has-this-name" in " ".join(attempt["executor"]) or "user" in " ".join(attempt["executor"])


def test_what_no_worker_can_take_is_refused_at_the_door(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the queue accepts a task whose body, with what it adds for the worker, no worker accepts."""
    limit = 64 * 1024
    small = {"body_max_bytes": limit}
    queue = start_queue({"w": start_runner(ROOMY | small)}, small)

    def body_of(size: int, field: str) -> str:
        task = {"command": ["true"], "resources": {"cores": 0.1, "memory_mb": 10}}
        if field == "stdin":
            task["stdin"] = ""
        missing = size - len(json.dumps(task, separators=(",", ":")))
        task |= {"stdin": "x" * missing} if field == "stdin" else {"command": ["true", "x" * (missing - 3)]}
        text = json.dumps(task, separators=(",", ":"))
        assert len(text) == size
        return text

    json_type = {"Content-Type": "application/json"}
    for field in ("stdin", "command"):
        statuses = []
        for size in [*range(limit - 200, limit, 20), limit]:
            id = task_id()
            answer = queue.post(f"/api/v1/task/{id}", data=body_of(size, field), headers=json_type)
            statuses.append(answer.status_code)
            if answer.status_code == 413:
                assert "body_max_bytes" in answer.json()["detail"], answer.json()
                assert queue.get(f"/api/v1/task/{id}").status_code == 404
            else:
                attempt = queue.wait(id)
                assert attempt["result"] == "success", (size, field, attempt["executor"])
        assert statuses[0] == 202 and statuses[-1] == 413 and statuses == sorted(statuses), statuses

    batch = f'[{body_of(limit - 2, "stdin")}]'
    answer = queue.post("/api/v1/tasks", data=batch, headers=json_type)
    assert [outcome["status"] for outcome in answer.json()] == [413], answer.text


def test_the_largest_task_is_told_as_taken(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a worker's answer shows the task's whole command, and is larger than what was sent: a task that was taken
    counts as uncertain, and its worker as one that does not answer."""
    queue = start_queue({"w": start_runner(ROOMY)})
    size = MIB - 200 - len('{"command":["true"],"resources":{"cores":1,"memory_mb":512}}')
    words = ["x" * 100_000] * (size // 100_003)
    words.append("x" * (size - 100_003 * len(words) - 3))
    attempt = queue.run(["true", *words])
    assert attempt["result"] == "success", attempt["executor"]
    assert attempt["attempts"] == []
    assert 'daggyd_submissions_total{outcome="unknown"} 0\n' in queue.get("/metrics").text


def test_retries(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: second tries of what failed, their pauses, what became of the first ones; or killed tasks run again."""
    queue = start_queue({"w": start_runner(ROOMY)})
    folder = open_folder()
    script = f"date +%s.%N >> {folder}/times; test $(wc -l < {folder}/times) = 3 && echo third"
    attempt = queue.run(["sh", "-c", script], retry={"max": 5, "backoff": 0.5})
    assert attempt["state"] == "completed" and attempt["output"] == "third\n"
    assert [(a["state"], a["exit_code"]) for a in attempt["attempts"]] == [("errored", 1)] * 2
    times = [float(line) for line in (folder / "times").read_text().split()]
    assert times[1] - times[0] >= 0.4 and times[2] - times[1] >= 0.85
    spent = queue.run(["false"], retry={"max": 1, "backoff": 0})
    assert spent["state"] == "errored" and len(spent["attempts"]) == 1
    killed = queue.run(["sleep", "60"], timeout=0.2, grace=0, retry={"max": 5, "backoff": 0})
    assert killed["state"] == "killed" and killed["attempts"] == []


def test_priorities(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: what is urgent waits behind all the rest."""
    queue = start_queue({"w": start_runner(ONE)})
    queue.await_leases("w")
    folder = open_folder()
    (folder / "order").touch(mode=0o666)
    (folder / "order").chmod(0o666)
    gate = Gate()
    holder = queue.submit(["sh", "-c", gate.awaited])
    await_that(lambda: queue.attempt(holder)["state"] == "running")
    ids = [
        queue.submit(["sh", "-c", f"echo {priority} | tee -a {folder}/order"], priority=priority)
        for priority in (0, -5, 9, 0, 3)
    ]
    gate.open()
    for id in ids:
        queue.wait(id)
    assert (folder / "order").read_text().split() == ["9", "3", "0", "0", "-5"]


def test_refusals(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a plain no, where a task would wait for ever or fill the queue."""
    queue = start_queue({"w": start_runner(ONE)}, {"queue_max": 3})
    queue.await_leases("w")
    never = queue.post(f"/api/v1/task/{task_id()}", json={"command": ["true"], "resources": {"cores": 2}})
    assert never.status_code == 422
    holder = queue.submit(["sleep", "infinity"])
    await_that(lambda: queue.attempt(holder)["state"] == "running")
    await_that(lambda: free_cores(queue) == 0, what="the queue to know that its worker is full")
    body = {"command": ["true"], "when_full": "reject"}
    full = queue.post(f"/api/v1/task/{task_id()}", json=body)
    assert full.status_code == 409 and "capacity" in str(full.json()) or "free" in full.json(), full.text
    batch = [{"task_id": task_id(), "command": ["true"]} for _ in range(5)]
    statuses = [part["status"] for part in queue.post("/api/v1/tasks", json=batch).json()]
    assert statuses == [202, 202, 202, 429, 429]
    many = queue.post(f"/api/v1/task/{task_id()}", json={"command": ["true"]})
    assert many.status_code == 429 and "Retry-After" in many.headers
    for bad in ({"retry": {"max": -1}}, {"priority": 1.5}, {"retry_on_lost": 1}, {"labels": {"daggyd.x": "1"}}):
        answer = queue.post(f"/api/v1/task/{task_id()}", json={"command": ["true"]} | bad)
        assert answer.status_code in (400, 429), (bad, answer.text)


def test_batches_lists_and_cursors(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks between the pages of a list, or filters that let others through."""
    queue = start_queue({"w": start_runner(ONE)})
    queue.await_leases("w")
    holder = queue.submit(["sleep", "infinity"])
    await_that(lambda: queue.attempt(holder)["state"] == "running")
    ids = [task_id("list") for _ in range(2500)]
    for at in range(0, 2500, 1000):
        batch = [
            {"task_id": id, "command": ["true"], "labels": {"third": str(i % 3), "even": str(i % 2)}}
            for i, id in enumerate(ids[at : at + 1000], at)
        ]
        assert {part["status"] for part in queue.post("/api/v1/tasks", json=batch).json()} == {202}

    def listed(**filters: Any) -> list[str]:
        found: list[str] = []
        after = None
        while True:
            page = queue.get("/api/v1/tasks", params=filters | ({"after": after} if after else {})).json()
            found += [task["task_id"] for task in page["tasks"]]
            after = page["next"]
            if not after:
                return found

    assert listed(limit=300) == [holder, *ids]
    assert listed(state="queued") == ids
    assert listed(state="running") == [holder]
    assert listed(label="third=1") == ids[1::3]
    assert listed(label=["third=0", "even=1"], limit=50) == ids[3::6]
    assert listed(label="third=7") == []
    assert queue.get("/api/v1/tasks?after=nonsense").status_code == 400


def read_events(
    queue: Queue,
    last_id: str | None,
    until: Callable[[dict[str, Any]], bool],
    listening: threading.Event | None = None,
) -> list[tuple[str, Any]]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    found: list[tuple[str, Any]] = []
    with queue.get("/api/v1/events", headers=headers, stream=True, timeout=30 * SLOWNESS) as answer:
        if listening:
            listening.set()
        id = ""
        for raw in answer.iter_lines(chunk_size=1):
            line = raw.decode()
            if line.startswith("id:"):
                id = line[3:].strip()
            elif line.startswith("data:"):
                data = json.loads(line[5:])
                found.append((id, data))
                if until(data):
                    return found
    return found


def test_events_resume(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: changes that happen while a listener reconnects."""
    queue = start_queue({"w": start_runner(ROOMY)})
    queue.await_leases("w")
    seen: list[tuple[str, Any]] = []
    first = task_id("ev")
    listening = threading.Event()

    def is_end(data: dict[str, Any]) -> bool:
        return data.get("task_id") == first and data.get("state") == "completed"

    listener = threading.Thread(target=lambda: seen.extend(read_events(queue, None, is_end, listening)))
    listener.start()
    assert listening.wait(30 * SLOWNESS)
    queue.submit(["true"], id=first)
    listener.join(30 * SLOWNESS)
    states = [data["state"] for _, data in seen if data.get("task_id") == first]
    assert states == ["queued", "running", "completed"]
    second = task_id("ev")
    queue.submit(["false"], id=second)
    queue.wait(second)
    missed = read_events(queue, seen[-1][0], lambda data: data.get("state") == "errored")
    assert [data["state"] for _, data in missed if data.get("task_id") == second] == ["queued", "running", "errored"]


def test_outputs_are_what_was_written(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: bytes of results."""
    queue = start_queue({"w": start_runner(ROOMY)})
    make = "head -c {n} /dev/zero | tr '\\0' '\\{c}'"
    cases = {
        "empty": ("true", b"", b""),
        "nul": ("printf 'a\\0b\\377\\n'; printf '\\0' >&2", b"a\0b\xff\n", b"\0"),
        "big": (
            make.format(n=5 * MIB, c="200") + "; " + make.format(n=5 * MIB + 1, c="000") + " >&2",
            b"\x80" * (5 * MIB),
            bytes(5 * MIB + 1),
        ),
    }
    for name, (script, out, error) in cases.items():
        attempt = queue.run(["sh", "-c", script])
        id = attempt["task_id"]
        assert (attempt["output_bytes"], attempt["error_bytes"]) == (len(out), len(error)), name
        assert queue.get(f"/api/v1/task/{id}/output").content == out, name
        assert queue.get(f"/api/v1/task/{id}/output?stream=stderr").content == error, name
        if out:
            rest = queue.get(f"/api/v1/task/{id}/output", params={"offset": len(out) - 3}).content
            assert rest == out[-3:], name
        assert attempt["output_truncated"] == (len(out) > MIB), name  # as shown in the attempt
    over = queue.run(["sh", "-c", make.format(n=17 * MIB, c="170")])
    assert over["output_bytes"] == 17 * MIB and over["output_truncated"]
    assert queue.get(f"/api/v1/task/{over['task_id']}/output").content == b"x" * (16 * MIB)


def test_followers_get_every_byte(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the end of what somebody watches; or a runner's network, to a crowd that watches the same."""
    runner = start_runner(ROOMY)
    queue = start_queue({"w": runner})
    queue.await_leases("w")
    script = "for i in $(seq 40); do head -c 100000 /dev/zero | tr '\\0' x; echo $i; sleep 0.03; done; echo end"
    expected = b"".join(b"x" * 100000 + f"{i}\n".encode() for i in range(1, 41)) + b"end\n"
    id = queue.submit(["sh", "-c", script])
    results: dict[int, bytes] = {}

    def follow(number: int, offset: int, pause: float) -> None:
        url = f"{queue.url}/api/v1/task/{id}/output?follow=true&offset={offset}"
        with requests.get(url, stream=True, timeout=60 * SLOWNESS) as answer:
            data = b""
            for piece in answer.iter_content(65536):
                data += piece
                time.sleep(pause)
            results[number] = data

    followers = [threading.Thread(target=follow, args=(i, 0, 0)) for i in range(6)]
    followers.append(threading.Thread(target=follow, args=(6, 1000, 0)))
    followers.append(threading.Thread(target=follow, args=(7, 0, 0.05)))  # slow
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.join(60 * SLOWNESS)
    assert queue.wait(id)["state"] == "completed"
    digests = {n: hashlib.sha256(data).hexdigest() for n, data in results.items()}
    whole = hashlib.sha256(expected).hexdigest()
    assert digests == {n: whole for n in range(8)} | {6: hashlib.sha256(expected[1000:]).hexdigest()}
    fetched = [
        line
        for line in runner.get("/metrics").text.splitlines()
        if line.startswith("daggyr_http_requests_total") and "output" in line
    ]
    assert sum(float(line.split()[-1]) for line in fetched) <= 3, fetched  # the followers', and the result's


def test_a_crowd_of_followers_does_not_hold_up_results(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: results, as long as others watch tasks of the same runner."""
    queue = start_queue({"w": start_runner(ROOMY | {"web-threads": 200})})
    queue.await_leases("w")
    small = {"resources": {"cores": 0.1, "memory_mb": 16}}
    ids = [queue.submit(["sleep", "infinity"], **small) for _ in range(70)]
    await_that(lambda: len(queue.get("/api/v1/tasks?state=running").json()["tasks"]) == 70, 60)
    answers = [
        requests.get(f"{queue.url}/api/v1/task/{id}/output?follow=true", stream=True, timeout=60) for id in ids
    ]
    try:
        attempt = queue.run(["sh", "-c", "printf '\\377'"], **small)
        assert queue.get(f"/api/v1/task/{attempt['task_id']}/output").content == b"\xff"
    finally:
        for answer in answers:
            answer.close()
        for id in ids:
            queue.delete(f"/api/v1/task/{id}")


def test_a_follower_of_a_lost_attempt_is_let_go(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: clients that wait for output that will never come."""
    runner = start_runner(ONE)
    queue = start_queue({"w": runner}, {"lease_ttl": 2, "lost_after": 1})
    id = queue.submit(["sh", "-c", "echo begun; sleep infinity"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    pid = runner.main_pid
    with requests.get(f"{queue.url}/api/v1/task/{id}/output?follow=true", stream=True, timeout=60 * SLOWNESS) as answer:
        pieces = answer.iter_content(4096)
        assert next(pieces) == b"begun\n"
        os.kill(pid, signal.SIGSTOP)
        try:
            assert list(pieces) == []
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_follower_of_a_queue_that_is_stopped_knows_that_more_would_come(
    start_runner: Starter, start_queue: Starter
) -> None:
    """Lost: the rest of an output, to a client that takes what it has for all there is."""
    runner = start_runner(ONE)
    queue = start_queue({"w": runner})
    id = queue.submit(["sh", "-c", "echo begun; sleep infinity"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    with requests.get(f"{queue.url}/api/v1/task/{id}/output?follow=true", stream=True, timeout=60 * SLOWNESS) as answer:
        pieces = answer.iter_content(4096)
        assert next(pieces) == b"begun\n"
        queue.stop()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(pieces)


def test_a_slow_follower_costs_no_memory(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the queue, to somebody who leaves a terminal open."""
    queue = start_queue({"w": start_runner(ROOMY)}, None, SMALL_QUARANTINE)
    queue.await_leases("w")
    id = queue.submit(["sh", "-c", "head -c 120000000 /dev/zero; sleep infinity"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    before = resident_kib(queue.main_pid)
    with requests.get(f"{queue.url}/api/v1/task/{id}/output?follow=true", stream=True, timeout=60) as answer:
        next(answer.iter_content(1000))
        # another one reads all that there is
        with requests.get(f"{queue.url}/api/v1/task/{id}/output?follow=true", stream=True, timeout=60) as other:
            n = 0
            for piece in other.iter_content(MIB):
                n += len(piece)
                if n >= 16 * MIB:
                    break
        assert resident_kib(queue.main_pid) - before < 12 * 1024 * SLOWNESS
    queue.delete(f"/api/v1/task/{id}", params={"wait": 20})


def test_a_stop_that_comes_too_late_keeps_the_result(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a result, because its task ended in the moment in which somebody stopped it."""
    queue = start_queue({"w": start_runner(ROOMY)})
    id = queue.run(["true"])["task_id"]
    stopped = queue.delete(f"/api/v1/task/{id}?keep=true")
    assert (stopped.status_code, stopped.json()["result"]) == (200, "success")
    assert queue.attempt(id)["result"] == "success"
    assert queue.delete(f"/api/v1/task/{id}").status_code == 204


def test_a_task_that_ends_is_known_all_the_while(start_queue: Starter) -> None:
    """Lost: a task that was accepted, to a client that asks for it at the moment when its end is stored."""
    queue = start_queue({}, NOBODY)
    long = "x" * 100_000  # too long to be kept in memory
    stop = threading.Event()
    ids = [queue.submit(["true", long]) for _ in range(load(100))]
    known = set(ids)

    def watch(ids: list[str]) -> set[tuple[str, int]]:
        """Asks for them, one after the other, until all have ended: the answers that no task should get."""
        wrong = set()
        with requests.Session() as http:
            for id in ids:
                while (answer := http.get(f"{queue.url}/api/v1/task/{id}?output=none", timeout=60)).ok:
                    if answer.json()["state"] == "killed":
                        break
                else:
                    wrong.add((id, answer.status_code))
        return wrong

    def list_all() -> set[str]:
        """Lists all of them until they have ended: those that were left out."""
        left_out: set[str] = set()
        with requests.Session() as http:
            while not stop.is_set():
                seen: set[str] = set()
                after: dict[str, int] = {}
                while after or not seen:
                    page = http.get(f"{queue.url}/api/v1/tasks", params=after, timeout=60).json()
                    seen |= {task["task_id"] for task in page["tasks"]}
                    after = {"after": page["next"]} if page["next"] is not None else {}
                left_out |= known - seen
        return left_out

    with ThreadPoolExecutor(3) as pool:
        watching = [pool.submit(watch, ids[i::2]) for i in range(2)]
        listing = pool.submit(list_all)
        try:
            for id in ids:
                assert queue.delete(f"/api/v1/task/{id}", params={"keep": "true"}).status_code == 202
            assert [watched.result() for watched in watching] == [set(), set()]
        finally:
            stop.set()
        assert listing.result() == set()
