# SPDX-License-Identifier: LGPL-2.1-or-later
"""What "journalctl -u" shows of a task."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bedlib import ROOMY, Runner, await_that, journal_of, run, scope_of


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


def entries(unit: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in journal_of(unit, output="json").splitlines()]


def lines(unit: str) -> list[str]:
    return journal_of(unit, output="cat").splitlines()


def test_the_shortest_task_has_its_output_under_its_unit(runner: Runner) -> None:
    """Lost: administrators would look for the output of short tasks in vain."""
    ids = [runner.submit(["sh", "-c", f"echo out {n}; echo err {n} >&2"]) for n in range(10)]
    for n, id in enumerate(ids):
        runner.wait(id)
        unit = scope_of(id)
        await_that(lambda: {f"out {n}", f"err {n}"} <= set(lines(unit)), what=f"output of {unit}")


def test_the_journal_tells_start_and_end_with_fields_to_search_by(runner: Runner) -> None:
    """Lost: searches such as "journalctl DAGGYR_TASK_ID=…", and the story of a task that wrote nothing."""
    id = runner.submit(["sh", "-c", "exit 3"])
    runner.wait(id)
    found = await_that(
        lambda: [entry for entry in entries(scope_of(id)) if entry.get("DAGGYR_RESULT")],
        what="the entry of the end",
    )
    assert [entry["DAGGYR_RESULT"] for entry in found] == ["exit-code"]
    own = [entry for entry in entries(scope_of(id)) if entry.get("DAGGYR_TASK_ID") == id]
    assert len(own) >= 2
    assert all(entry.get("MESSAGE_ID") for entry in own)
    by_field = run("journalctl", "--quiet", "--output", "cat", f"DAGGYR_TASK_ID={id}").splitlines()
    assert len(by_field) == len(own)


def test_the_catalog_explains_the_entries(runner: Runner) -> None:
    """Lost: "journalctl -x" would not say what an entry means."""
    id = runner.submit(["true"])
    runner.wait(id)
    run("journalctl", "--update-catalog")
    await_that(lambda: "ended" in "".join(lines(scope_of(id))), what="the entry of the end")
    text = run("journalctl", "--quiet", "--catalog", "--unit", scope_of(id))
    assert f"Subject: Task {id} started\n" in text
    assert f"Subject: Task {id} ended: success\n" in text


def test_the_last_line_needs_no_line_break(runner: Runner) -> None:
    """Lost: the end of a message, often the one that says why."""
    id = runner.submit(["printf", "first\\nlast words"])
    runner.wait(id)
    await_that(lambda: "last words" in lines(scope_of(id)), what="the last words")


def test_many_lines_arrive_in_order(runner: Runner) -> None:
    """Lost: logs of real builds would have holes or be shuffled."""
    id = runner.submit(["seq", "2000"])
    runner.wait(id)
    numbers = await_that(
        lambda: [line for line in lines(scope_of(id)) if line.isdigit()], what="numbers"
    )
    assert numbers == [str(n + 1) for n in range(2000)]


def test_output_can_be_kept_out_of_the_journal(start_runner: Callable[..., Runner]) -> None:
    """Lost: sites whose tasks print secrets could not keep them out of the logs."""
    runner = start_runner(ROOMY | {"journal": False})
    id = runner.submit(["echo", "secret words"])
    assert runner.wait(id)["output"] == "secret words\n"
    run("journalctl", "--sync")
    assert "secret words" not in lines(scope_of(id))
    assert "secret words" not in runner.journal()


def test_a_task_cannot_forge_entries_of_others(runner: Runner) -> None:
    """Lost: the journal as evidence. Output with line breaks and field syntax stays plain text."""
    text = "MESSAGE=forged\nPRIORITY=0\n\n<0>alarm\x00\x1b[31mred\n_SYSTEMD_UNIT=init.scope\n"
    id = runner.submit(["cat"], stdin=text.replace("\x00", ""))
    runner.wait(id)
    await_that(lambda: "_SYSTEMD_UNIT=init.scope" in lines(scope_of(id)), what="the last line")
    own = [entry for entry in entries(scope_of(id)) if entry["_PID"] != "1"]
    assert {entry["_SYSTEMD_UNIT"] for entry in own} == {scope_of(id)}
    assert not [entry for entry in own if entry["MESSAGE"] == "forged" or entry["PRIORITY"] == "0"]
