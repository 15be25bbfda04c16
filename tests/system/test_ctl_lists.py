# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyctl list, summary, wait and output for those who have many tasks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from bedlib import ROOMY, Runner, await_that, open_folder, task_id
from ctllib import Terminal, ctl, environment, good

Starter = Callable[..., Any]


@pytest.fixture
def runner(start_runner: Starter) -> Runner:
    return start_runner(ROOMY)


def test_lists_are_sorted_by_any_column(daemon: Runner) -> None:
    """Lost: which task takes the most, and which has run for the longest."""
    label = f"test={task_id()}"
    ids = {}
    for cores, name in ((2, "b"), (0.5, "c"), (1, "a")):
        ids[name] = task_id(name)
        good(daemon, "submit", "--wait", "--id", ids[name], "-l", label, "-c", str(cores), "true")

    def order(field: str) -> list[str]:
        listed = good(daemon, "list", "-l", label, "--sort", field, "-o", "name").split()
        return [name for id in listed for name in ids if ids[name] == id]

    assert order("cores") == ["c", "a", "b"]
    assert order("-cores") == ["b", "a", "c"]
    assert order("id") == ["a", "b", "c"]
    assert order("submitted") == ["b", "c", "a"]
    assert order("-stopped") == ["a", "c", "b"]
    assert len(order("time")) == 3
    refused = ctl(daemon, "list", "--sort", "colour")
    assert refused.returncode == 2 and "submitted" in refused.stderr


def test_lists_come_in_the_form_that_is_asked_for(daemon: Runner) -> None:
    """Lost: scripts that read more of tasks than people do."""
    id, label = task_id(), f"test={task_id()}"
    good(daemon, "submit", "--wait", "--id", id, "-l", label, "-l", "team=x y", "sh", "-c", "exit 0")
    assert good(daemon, "list", "-l", label, "-o", "name") == f"{id}\n"
    rows = [json.loads(line) for line in good(daemon, "list", "-l", label, "-o", "json").splitlines()]
    assert [row["task_id"] for row in rows] == [id]
    head, row = good(daemon, "list", "-l", label, "--output=wide").splitlines()
    columns = dict(zip(head.split(), row.split(None, 11)))
    assert columns["EXIT"] == "0" and "team=x_y" in columns["LABELS"] and columns["COMMAND"].startswith("sh -c")
    assert columns["SUBMITTED"].endswith("Z") and columns["STARTED"].endswith("Z")
    assert ctl(daemon, "list", "-o", "yaml").returncode == 2
    assert ctl(daemon, "list", "--json", "--sort", "id").returncode == 2


def test_lists_begin_where_they_are_told_to(daemon: Runner) -> None:
    """Lost: what has happened lately, among all there is."""
    label, early, late = f"test={task_id()}", task_id(), task_id()
    good(daemon, "submit", "--wait", "--id", early, "-l", label, "true")
    good(daemon, "submit", "--wait", "--id", late, "-l", label, "true")
    since = daemon.attempt(late)["submit_time"]
    assert good(daemon, "list", "-l", label, "--since", since, "-o", "name").split() == [late]
    assert good(daemon, "list", "-l", label, "--since", "1h", "-o", "name").split() == [early, late]
    assert ctl(daemon, "list", "--since", "yesterday-ish").returncode == 2


def test_a_watched_list_goes_on_with_each_change(daemon: Runner) -> None:
    """Lost: a look at the tasks of one's own without asking again and again."""
    label, folder = f"test={task_id()}", open_folder()
    first, second, other = task_id("first"), task_id("second"), task_id("other")
    good(daemon, "submit", "--wait", "--id", first, "-l", label, "true")
    process = subprocess.Popen(
        ["daggyctl", "list", "-l", label, "--watch"], env=environment(daemon), text=True, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout
        assert process.stdout.readline().startswith("ID")
        assert process.stdout.readline().split()[:2] == [first, "completed"]
        good(daemon, "submit", "--id", other, "true")
        script = f"while [ ! -e {folder}/go ]; do sleep 0.05; done"
        good(daemon, "submit", "--id", second, "-l", label, "sh", "-c", script)
        states: list[str] = []
        while "running" not in states:
            words = process.stdout.readline().split()
            assert words[0] == second
            states.append(words[1])
        (folder / "go").touch()
        while "completed" not in states:
            words = process.stdout.readline().split()
            assert words[0] == second
            states.append(words[1])
        process.terminate()


def test_colours_are_for_terminals_alone(runner: Runner) -> None:
    """Lost: what a log, an editor or awk can read; and for some people, what their eyes can."""
    id = runner.run(["false"])["task_id"]
    assert "\033" not in good(runner, "list")
    with Terminal(runner, "list") as terminal:
        assert terminal.end() == 0
        assert "\033[31merrored" in terminal.raw
    for more in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        with Terminal(runner, "list", **more) as terminal:
            assert terminal.end() == 0
            assert id in terminal.raw and "\033" not in terminal.raw


def test_a_coloured_table_fits_the_terminal_too(runner: Runner) -> None:
    """Lost: lines that end where the terminal does, and the terminal's own colours below them."""
    runner.run(["echo", "x" * 200])
    with Terminal(runner, "list", columns=60) as terminal:
        assert terminal.end() == 0
    line = terminal.raw.splitlines()[1]
    plain = line
    for sequence in ("\033[32m", "\033[0m"):
        plain = plain.replace(sequence, "")
    assert len(plain) == 60 and plain.endswith("…")
    assert line.rindex("\033[0m") > line.rindex("\033[32m")


def test_summary_counts(daemon: Runner) -> None:
    """Lost: how many of many tasks have failed, and how."""
    label = f"test={task_id()}"
    for command in (["true"], ["true"], ["false"], ["sh", "-c", "kill -SEGV $$"]):
        ctl(daemon, "submit", "--wait", "-l", label, "--", *command)
    lines = [line.split() for line in good(daemon, "summary", "-l", label).splitlines()]
    assert lines[0] == ["STATE", "RESULT", "TASKS"]
    assert lines[1] == ["completed", "success", "2"]
    assert sorted(line[0] for line in lines[2:4]) == ["errored", "errored"]
    assert lines[4] == ["total", "-", "4"]
    summed = json.loads(good(daemon, "summary", "-l", label, "--json"))
    assert summed["total"] == 4
    assert {"state": "completed", "result": "success", "tasks": 2} in summed["counts"]


def test_wait_for_a_label(daemon: Runner) -> None:
    """Lost: the end of all tasks that belong together, without a list of their ids."""
    label = f"test={task_id()}"
    ids = [good(daemon, "submit", "-l", label, "sh", "-c", f"exit {n}").strip() for n in (0, 3, 4)]
    done = ctl(daemon, "wait", "-l", label)
    assert done.returncode == 3
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ids
    assert ctl(daemon, "wait", "-l", f"test={task_id()}").returncode == 125
    assert ctl(daemon, "wait").returncode == 2
    assert ctl(daemon, "wait", "-l", label, ids[0]).returncode == 2


def test_wait_tells_how_far_it_is(daemon: Runner) -> None:
    """Lost: whether to stay or to get a coffee."""
    folder = open_folder()
    first = good(daemon, "submit", "sh", "-c", f"while [ ! -e {folder}/go ]; do sleep 0.05; done").strip()
    bad = good(daemon, "submit", "false").strip()
    rest = [good(daemon, "submit", "true").strip() for _ in range(3)]
    with Terminal(daemon, "wait", first, bad, *rest) as terminal:
        terminal.await_text("4/5 done, 1 failed")
        (folder / "go").touch()
        assert terminal.end() == 1
    assert terminal.raw.count("completed (success)") == 4
    assert terminal.raw.endswith("\r\033[K")  # nothing of it is left
    piped = ctl(daemon, "wait", first, bad, *rest)
    assert piped.returncode == 1 and "\r" not in piped.stderr


def test_output_of_both_streams(daemon: Runner) -> None:
    """Lost: what a task wrote to its stderr between the lines of its stdout, while one watches it."""
    folder = open_folder()
    script = f"""echo one
        while [ ! -e {folder}/a ]; do sleep 0.05; done; echo two >&2
        while [ ! -e {folder}/b ]; do sleep 0.05; done; echo three"""
    id = good(daemon, "submit", "sh", "-c", script).strip()
    process = subprocess.Popen(
        ["daggyctl", "output", "-f", "--all", id],
        env=environment(daemon), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    with process:
        assert process.stdout and process.stdout.readline() == "one\n"
        (folder / "a").touch()
        assert process.stdout.readline() == "two\n"
        (folder / "b").touch()
        assert process.stdout.read() == "three\n"
    assert process.returncode == 0
    done = ctl(daemon, "output", "-a", id)
    assert (done.stdout, done.stderr, done.returncode) == ("one\nthree\n", "two\n", 0)


def test_a_runner_that_is_gone_ends_a_watched_list(runner: Runner) -> None:
    """Lost: a script that would watch nothing for ever."""
    done = ctl("http://127.0.0.1:1", "list", "--watch")
    assert done.returncode == 123
    await_that(lambda: runner.get("/ready").status_code == 200)
