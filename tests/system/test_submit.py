# SPDX-License-Identifier: LGPL-2.1-or-later
"""The life of a task as seen over REST: submit, get, wait, delete, list."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from bedlib import (
    ROOMY,
    SLOWNESS,
    Runner,
    await_nothing_left,
    await_that,
    open_folder,
    processes_of,
    remains_of,
    scope_of,
    submit_brood,
    task_id,
    unit_property,
)

ATTEMPT_KEYS = {
    *("task_id", "state", "result", "unit", "command", "resources", "labels"),
    *("submit_time", "start_time", "stop_time", "succeeded", "killed", "exit_code", "signal"),
    *("output", "error", "output_bytes", "error_bytes", "output_truncated", "error_truncated"),
    *("executor", "max_cpu", "max_rss", "usage"),
}


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


def test_a_submitted_task_is_accepted_run_and_reported(runner: Runner) -> None:
    """Lost: the main job. A client could not run a command and read how it went."""
    id = task_id()
    body = {"command": ["sh", "-c", "echo hi; echo oh >&2"], "labels": {"why": "test"}}
    accepted = runner.post(f"/api/v1/task/{id}", json=body)
    assert accepted.status_code == 202
    assert accepted.headers["Location"] == f"/api/v1/task/{id}"
    assert accepted.headers["Content-Type"] == "application/json"
    assert accepted.json()["state"] in ("queued", "running")
    assert accepted.json()["result"] is None

    attempt = runner.get(accepted.headers["Location"], params={"wait": 30}).json()
    assert set(attempt) == ATTEMPT_KEYS
    assert {key: attempt[key] for key in (*body, "task_id", "unit", "state", "result")} == body | {
        "task_id": id,
        "unit": scope_of(id),
        "state": "completed",
        "result": "success",
    }
    assert (attempt["succeeded"], attempt["killed"]) == (True, False)
    assert (attempt["exit_code"], attempt["signal"]) == (0, None)
    assert (attempt["output"], attempt["error"]) == ("hi\n", "oh\n")
    assert (attempt["output_bytes"], attempt["error_bytes"]) == (3, 3)
    assert attempt["resources"] == {"cores": 1, "memory_mb": 512}


def test_times_are_utc_with_microseconds_and_in_order(runner: Runner) -> None:
    """Lost: durations and orderings computed from attempts."""
    attempt = runner.run(["true"])
    times = [attempt[f"{what}_time"] for what in ("submit", "start", "stop")]
    for text in times:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert times == sorted(times)
    assert abs(datetime.fromisoformat(times[0]).timestamp() - time.time()) < 60 * SLOWNESS


def test_the_same_submission_again_runs_nothing_new(runner: Runner) -> None:
    """Lost: a client that repeats a request after a lost answer would run its task twice."""
    id, log = task_id(), open_folder() / "log"
    body = {"command": ["sh", "-c", f"echo ran >> {log}"], "labels": {"a": "1", "b": "2"}}
    answers = [runner.post(f"/api/v1/task/{id}", json=body)]
    reordered = {"labels": {"b": "2", "a": "1"}, "command": body["command"]}
    answers.append(runner.post(f"/api/v1/task/{id}", json=reordered))
    first = runner.wait(id)
    answers.append(runner.post(f"/api/v1/task/{id}", json=body))
    assert [answer.status_code for answer in answers] == [202, 200, 200]
    assert answers[2].json() == first
    assert log.read_text() == "ran\n"


def test_another_specification_for_a_taken_id_is_refused(runner: Runner) -> None:
    """Lost: two clients that chose the same id would read each other's results as their own."""
    id = runner.submit(["true"])
    for other in ({"command": ["false"]}, {"command": ["true"], "timeout": 9}):
        answer = runner.post(f"/api/v1/task/{id}", json=other)
        assert answer.status_code == 409
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert runner.wait(id)["command"] == ["true"]


def test_the_server_chooses_an_id_for_a_task_without_one(runner: Runner) -> None:
    """Lost: clients that have no ids of their own."""
    answers = [runner.post("/api/v1/task", json={"command": ["echo", str(n)]}) for n in range(3)]
    ids = [answer.json()["task_id"] for answer in answers]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len(set(ids)) == 3
    for n, (answer, id) in enumerate(zip(answers, ids)):
        assert answer.headers["Location"] == f"/api/v1/task/{id}"
        assert runner.wait(id)["output"] == f"{n}\n"


@pytest.mark.parametrize("wait", [0.2, 1])
def test_a_wait_that_runs_out_answers_with_the_live_attempt(runner: Runner, wait: float) -> None:
    """Lost: long polls would hang, or claim an end that did not happen."""
    id = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(id)["state"] == "running")
    start = time.monotonic()
    attempt = runner.attempt(id, wait=wait)
    assert wait <= time.monotonic() - start < wait + 3 * SLOWNESS
    assert (attempt["state"], attempt["result"], attempt["stop_time"]) == ("running", None, None)


def test_a_waiting_client_hears_of_the_end_at_once(runner: Runner) -> None:
    """Lost: short tasks would take as long as their clients poll."""

    def delay() -> float:
        output = runner.run(["sh", "-c", "sleep 0.3; date +%s.%N"])["output"]
        return time.time() - float(output)

    assert any(delay() < 0.1 * SLOWNESS for _ in range(20))


def test_the_output_can_be_left_out(runner: Runner) -> None:
    """Lost: pollers would carry megabytes of output each time."""
    id = runner.submit(["echo", "much"])
    runner.wait(id)
    short = runner.attempt(id, output="none")
    assert set(short) == ATTEMPT_KEYS - {"output", "error"}
    assert short["output_bytes"] == 5
    assert runner.attempt(id, output="full")["output"] == "much\n"
    assert runner.attempt(id, output="tail")["output"] == "much\n"


def test_head_is_get_without_the_body(runner: Runner) -> None:
    """Lost: HTTP clients and monitors that ask by HEAD."""
    id = runner.submit(["true"])
    runner.wait(id)
    for path in (f"/api/v1/task/{id}", "/api/v1/tasks", "/ready"):
        head, get = runner.request("HEAD", path), runner.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers.get("Content-Length") == get.headers["Content-Length"]
        assert head.headers.get("Content-Type") == get.headers.get("Content-Type")
    assert runner.request("HEAD", f"/api/v1/task/{task_id()}").status_code == 404


def test_deleting_a_live_task_ends_every_process_of_it(runner: Runner) -> None:
    """Lost: stopped tasks would go on in the background, on capacity that counts as free."""
    id = submit_brood(runner)
    answer = runner.delete(f"/api/v1/task/{id}")
    assert answer.status_code == 202
    assert answer.json()["task_id"] == id
    attempt = runner.wait(id)
    assert processes_of(id) == []
    assert (attempt["state"], attempt["result"]) == ("killed", "stopped")
    assert (attempt["succeeded"], attempt["killed"]) == (False, True)
    await_nothing_left(id)


def test_a_delete_can_wait_for_the_end(runner: Runner) -> None:
    """Lost: clients would have to poll after each DELETE."""
    id = submit_brood(runner)
    answer = runner.delete(f"/api/v1/task/{id}", params={"wait": min(300, 30 * SLOWNESS)})
    assert answer.json()["state"] == "killed"
    assert processes_of(id) == []


def test_deleting_a_finished_task_forgets_it(runner: Runner) -> None:
    """Lost: results could not be cleared away, nor their ids used again."""
    id = runner.submit(["echo", "1"])
    runner.wait(id)
    await_that(lambda: not remains_of(id))
    path = f"/api/v1/task/{id}"
    forgotten = runner.delete(path)
    assert (forgotten.status_code, forgotten.content) == (204, b"")
    assert [runner.get(path).status_code, runner.delete(path).status_code] == [404, 404]
    assert runner.wait(runner.submit(["echo", "2"], id))["output"] == "2\n"


def test_an_id_can_be_used_again_at_once(runner: Runner) -> None:
    """Lost: a client that deletes and submits again would meet the old scope and fail to start."""
    id = task_id()
    for n in range(10):
        assert runner.wait(runner.submit(["echo", str(n)], id))["output"] == f"{n}\n"
        assert runner.delete(f"/api/v1/task/{id}").status_code == 204


@pytest.mark.parametrize("name", ["7", "a.b_c:d-e", "x" * 128])
def test_every_valid_id_works_in_a_path_and_as_a_unit(runner: Runner, name: str) -> None:
    """Lost: clients whose ids have dots, colons or the full length."""
    encoded = name.replace(":", "%3A").replace("a", "%61")
    answer = runner.post(f"/api/v1/task/{encoded}", json={"command": ["sleep", "infinity"]})
    assert answer.status_code == 202
    assert answer.json()["task_id"] == name
    unit = answer.json()["unit"]
    await_that(lambda: unit_property(unit, "ActiveState") == "active", what=f"start of {unit}")
    assert unit_property(unit, "Slice") == "daggyr.slice"
    assert runner.delete(f"/api/v1/task/{encoded}?wait=60").json()["result"] == "stopped"


def test_the_list_filters_by_state_and_label(runner: Runner) -> None:
    """Lost: operators could not find their tasks among thousands."""
    good = runner.submit(["true"], labels={"team": "red", "kind": "build"})
    bad = runner.submit(["false"], labels={"team": "red", "kind": "test"})
    live = runner.submit(["sleep", "infinity"], labels={"team": "blue", "kind": "test"})
    runner.wait(good), runner.wait(bad)
    await_that(lambda: runner.attempt(live)["state"] == "running")

    def listed(query: str) -> list[str]:
        answer = runner.get(f"/api/v1/tasks?{query}")
        assert answer.status_code == 200
        return [task["task_id"] for task in answer.json()["tasks"]]

    assert listed("") == [good, bad, live]
    assert listed("state=completed") == [good]
    assert listed("state=errored") == [bad]
    assert listed("state=running") == [live]
    assert listed("state=queued") == listed("state=killed") == []
    assert listed("label=team=red") == [good, bad]
    assert listed("label=team=red&label=kind=test") == [bad]
    assert listed("label=kind%3Dtest&state=running") == [live]
    assert listed("label=team=re") == []


def test_a_walk_by_cursor_sees_each_task_once(runner: Runner) -> None:
    """Lost: a client that walks the list would miss tasks or count some twice."""
    ids = [runner.submit(["true"]) for _ in range(12)]
    seen, after, pages = [], None, 0
    while pages == 0 or after is not None:
        page = runner.get("/api/v1/tasks", params={"limit": 5, "after": after}).json()
        assert all("output" not in task for task in page["tasks"])
        seen += [task["task_id"] for task in page["tasks"]]
        after, pages = page["next"], pages + 1
        if pages == 1:  # neither what comes nor what goes in the middle of a walk disturbs it
            ids.append(runner.submit(["true"]))
            runner.wait(ids[4])
            runner.delete(f"/api/v1/task/{ids[4]}")
    assert seen == ids
    assert pages == 3


def test_results_are_kept_within_the_limits_configured(start_runner: Callable[..., Runner]) -> None:
    """Lost: a runner that is used for long would run out of memory."""
    runner = start_runner(ROOMY | {"results_max": 2, "result_ttl": 5 * SLOWNESS})
    ids = [runner.submit(["true"]) for _ in range(3)]
    await_that(
        lambda: all(task["stop_time"] for task in runner.get("/api/v1/tasks").json()["tasks"]),
        what="all to have ended",
    )
    known = [runner.get(f"/api/v1/task/{id}").status_code for id in ids]
    assert sorted(known) == [200, 200, 404]
    await_that(lambda: runner.get("/api/v1/tasks").json()["tasks"] == [], what="the results to expire")
