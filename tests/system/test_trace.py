# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which trace a task belongs to: from the headers of a request, or daggyctl's environment, to its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Any

from bedlib import ROOMY, SLOWNESS, Runner, task_id

Starter = Callable[..., Any]

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01"
SHOW = ["sh", "-c", 'echo "$TRACEPARENT $TRACESTATE"']


def test_the_headers_of_a_submission_reach_the_task(daemon: Runner) -> None:
    """Lost: what a task does in the trace of the request that it was made for."""
    headers = {"traceparent": PARENT, "tracestate": "vendor=1"}
    id = task_id()
    assert daemon.post(f"/api/v1/task/{id}", json={"command": SHOW}, headers=headers).status_code == 202
    assert daemon.wait(id)["output"] == f"{PARENT} vendor=1\n"
    ids = [task_id(), task_id()]
    batch = [{"task_id": id, "command": SHOW} for id in ids]
    assert daemon.post("/api/v1/tasks", json=batch, headers=headers).status_code == 200
    assert [daemon.wait(id)["output"] for id in ids] == [f"{PARENT} vendor=1\n"] * 2


def test_a_task_that_names_its_trace_keeps_it(daemon: Runner) -> None:
    """Lost: the word of the client, where a proxy adds headers of its own."""
    id = task_id()
    body = {"command": SHOW, "environment": {"TRACEPARENT": OTHER}}
    headers = {"traceparent": PARENT, "tracestate": "vendor=1"}
    daemon.post(f"/api/v1/task/{id}", json=body, headers=headers)
    assert daemon.wait(id)["output"] == f"{OTHER} \n"


def test_a_malformed_trace_harms_nothing(daemon: Runner) -> None:
    """Lost: a task, because of a header that has nothing to do with it."""
    id = task_id()
    answer = daemon.post(f"/api/v1/task/{id}", json={"command": SHOW}, headers={"traceparent": "00-x"})
    assert answer.status_code == 202
    assert daemon.wait(id)["output"] == " \n"


def test_a_repeated_submission_in_another_span_is_the_same(daemon: Runner) -> None:
    """Lost: the one run of a task, whose submission was repeated by a client that traces each request."""
    id = task_id()
    for parent, status in ((PARENT, 202), (OTHER, 200)):
        answer = daemon.post(f"/api/v1/task/{id}", json={"command": SHOW}, headers={"traceparent": parent})
        assert answer.status_code == status
    assert daemon.wait(id)["output"] == f"{PARENT} \n"


def test_daggyr_servers_are_traced_too(start_runner: Starter) -> None:
    """Lost: the same through DaggyR's own interface."""
    runner = start_runner(ROOMY)
    answer = runner.post(f"/api/v1/7/{task_id()}", json={"command": SHOW}, headers={"traceparent": PARENT})
    assert answer.json()["output"] == f"{PARENT} \n"


def test_daggyctl_hands_its_trace_on(daemon: Runner) -> None:
    """Lost: a trace that goes through a script."""
    environment = os.environ | {
        "DAGGYCTL_HOST": daemon.url, "DAGGYCTL_TOKEN_FILE": "", "TRACEPARENT": PARENT, "TRACESTATE": "a=1"
    }

    def ctl(*arguments: str) -> str:
        done = subprocess.run(
            ["daggyctl", *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60 * SLOWNESS
        )
        assert done.returncode == 0, done
        return done.stdout.decode()

    assert ctl("run", "--", *SHOW) == f"{PARENT} a=1\n"
    assert ctl("run", "-E", f"TRACEPARENT={OTHER}", "--", *SHOW) == f"{OTHER} \n"
    id = ctl("submit", "--wait", "--", *SHOW).strip()
    assert ctl("output", id) == f"{PARENT} a=1\n"
    environment["TRACEPARENT"] = "nonsense"
    assert ctl("run", "--", *SHOW) == " \n"
