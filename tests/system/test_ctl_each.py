# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyctl submit --each: a task for each line."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from bedlib import ROOMY, SLOWNESS, Queue, Runner, load, open_folder, task_id
from ctllib import Terminal, ctl, environment, good

Starter = Callable[..., Any]


def test_each_line_becomes_a_task(daemon: Runner) -> None:
    """Lost: one command for a list of files."""
    lines = "one\n\ntwo words\n'quote\"$x"
    ids = good(daemon, "submit", "--each", "-", "--", "printf", "%s-%s", "{}", "<{}{}>", input=lines).split()
    texts = ["one", "two words", "'quote\"$x"]
    assert [daemon.wait(id)["output"] for id in ids] == [f"{text}-<{text}{text}>" for text in texts]


def test_without_a_place_the_line_is_the_last_argument(daemon: Runner) -> None:
    """Lost: the habit of xargs."""
    path = open_folder() / "lines"
    path.write_text("a\nb c\n")
    ids = good(daemon, "submit", "--wait", "--each", str(path), "echo").splitlines()
    assert [line.endswith("completed (success)") for line in ids] == [False, False, True, True]
    assert [daemon.attempt(id)["output"] for id in ids[:2]] == ["a\n", "b c\n"]


def test_a_name_makes_it_repeatable(daemon: Runner) -> None:
    """Lost: a batch that was cut off half-way, which would run twice in part when it is submitted again."""
    name = task_id("batch")
    expected = [f"{name}-1", f"{name}-3"]
    for _ in range(2):
        assert good(daemon, "submit", "--each", "-", "--id", name, "true", input="a\n\nb\n").split() == expected
    tasks = [id for id in good(daemon, "list", "-o", "name").split() if id.startswith(name)]
    assert tasks == expected


def test_a_bad_line_is_told_before_anything_is_submitted(daemon: Runner) -> None:
    """Lost: the half of a batch that runs, while the other is mended."""
    path = open_folder() / "lines"
    path.write_bytes(b"good\nb\xffd\n")
    label = f"test={task_id()}"
    done = ctl(daemon, "submit", "-l", label, "--each", str(path), "true")
    assert (done.returncode, done.stdout) == (2, "") and "line 2" in done.stderr
    assert good(daemon, "list", "-l", label, "-o", "name") == ""
    assert ctl(daemon, "submit", "--each", f"{path}.gone", "true").returncode == 2
    assert ctl(daemon, "submit", "--each", str(path)).returncode == 2
    twice = ctl(daemon, "submit", "--each", "-", "--stdin", "-", "cat", input="a\n")
    assert (twice.returncode, twice.stdout) == (2, "")


def test_a_refused_line_holds_up_no_other(daemon: Runner) -> None:
    """Lost: the rest of a batch."""
    taken = good(daemon, "submit", "--id", f"{task_id('x')}-2", "sleep", "0").strip()
    prefix = taken.rpartition("-")[0]
    done = ctl(daemon, "submit", "--id", prefix, "--each", "-", "true", input="a\nb\nc\n")
    assert done.returncode == 125 and done.stderr.startswith("daggyctl: line 2: ")
    assert done.stdout.split() == [f"{prefix}-1", f"{prefix}-3"]


def test_a_full_runner_is_waited_for(start_runner: Starter) -> None:
    """Lost: the lines for which there was no room at once."""
    runner = start_runner({"capacity_overrides": {"cores": 4, "memory_mb": 4096}, "queue_max": 10})
    lines = "".join(f"{n}\n" for n in range(60))
    done = ctl(runner, "submit", "--each", "-", "sleep", "0.0{}", input=lines)
    assert done.returncode == 0, done
    assert done.stderr.count("waiting with the rest") == 1
    ids = done.stdout.split()
    assert len(ids) == 60
    assert all(runner.wait(id)["result"] == "success" for id in ids)


def test_an_interrupted_batch_says_what_is_submitted(start_runner: Starter) -> None:
    """Lost: which lines are done with, when one is not to be run twice."""
    runner = start_runner({"capacity_overrides": {"cores": 1, "memory_mb": 1024}, "queue_max": 5})
    process = subprocess.Popen(
        ["daggyctl", "submit", "--each", "-", "sleep", "100"],
        env=environment(runner), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    assert process.stdin and process.stderr
    process.stdin.write("".join(f"{n}\n" for n in range(50)))
    process.stdin.close()
    process.stdin = None
    assert "waiting with the rest" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60 * SLOWNESS)
    assert process.returncode == 130
    ids = out.split()
    listed = [task["task_id"] for task in runner.get("/api/v1/tasks").json()["tasks"]]
    assert ids == listed and len(ids) < 50
    assert f"{len(ids)} of 50 lines are submitted" in err


def test_progress_is_shown_on_a_terminal(start_runner: Starter) -> None:
    """Lost: whether it still goes on."""
    runner = start_runner({"capacity_overrides": {"cores": 4, "memory_mb": 4096}, "queue_max": 20})
    path = open_folder() / "lines"
    path.write_text("".join(f"{n}\n" for n in range(50)))
    with Terminal(runner, "submit", "--each", str(path), "true") as terminal:
        assert terminal.end() == 0
    assert "/50 submitted, 0 refused" in terminal.raw


@pytest.mark.serial
@pytest.mark.plain
def test_ten_thousand_are_submitted_in_no_time(start_queue: Starter) -> None:
    """Lost: the reason to do it by one command."""
    n = load(10000)
    queue = start_queue({}, {"queue_max": 20000, "workers": [{"id": "away", "url": "http://127.0.0.1:1"}]})
    label = f"test={task_id()}"
    lines = "".join(f"{i}\n" for i in range(n))
    begin = time.monotonic()
    done = ctl(queue, "submit", "--each", "-", "-l", label, "test", "{}", "!=", "7", input=lines)
    took = time.monotonic() - begin
    assert done.returncode == 0 and len(done.stdout.split()) == n, done.stderr
    print(f"{n} tasks in {took:.1f} s")
    assert took < 10 * SLOWNESS
    assert summed(queue, label) == {"queued": n, "total": n}


def summed(queue: Queue, label: str) -> dict[str, int]:
    lines = good(queue, "summary", "-l", label).splitlines()[1:]
    rows = [line.split() for line in lines[: next(i + 1 for i, line in enumerate(lines) if "total" in line)]]
    return {row[0]: int(row[-1]) for row in rows}


@pytest.mark.plain
def test_one_of_many_that_fails_is_found_and_tried_again(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: an evening, looking for the one that failed."""
    n = load(1000)
    queue = start_queue({"w": start_runner(ROOMY)})
    queue.await_leases("w")
    folder = open_folder()
    label = f"test={task_id()}"
    lines = "".join(f"{i}\n" for i in range(n))
    script = f"[ $1 != 7 ] || [ -e {folder}/mended ]"
    ids = good(queue, "submit", "--each", "-", "-l", label, "sh", "-c", script, "sh", "{}", input=lines).split()
    waited = ctl(queue, "wait", "-l", label)
    assert waited.returncode == 1 and len(waited.stdout.splitlines()) == n
    assert [line for line in waited.stdout.splitlines() if "(success)" not in line] == [f"{ids[7]}: errored (exit-code)"]
    assert summed(queue, label) == {"completed": n - 1, "errored": 1, "total": n}
    (folder / "mended").touch()
    assert good(queue, "retry", "-l", label) == f"{n} matched, 1 changed\n"
    assert ctl(queue, "wait", "-l", label).returncode == 0
    assert summed(queue, label) == {"completed": n, "total": n}


def test_closed_stdout_names_what_is_submitted(start_runner: Starter) -> None:
    """Lost: a task that runs and has no name."""
    runner = start_runner(ROOMY)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            ["daggyctl", "submit", "--each", "-", "true"], env=environment(runner), text=True, input="a\nb\n",
            stdout=full, stderr=subprocess.PIPE, timeout=60 * SLOWNESS,
        )
    assert done.returncode == 125
    ids = [task["task_id"] for task in runner.get("/api/v1/tasks").json()["tasks"]]
    assert all(f"{id} is submitted" in done.stderr for id in ids) and len(ids) == 2
