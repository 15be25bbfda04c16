# SPDX-License-Identifier: LGPL-2.1-or-later
"""What "journalctl -u" shows of a task."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bedlib import ROOMY, Runner, await_that, journal_of, load, run, scope_of, task_id


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
    n_lines = load(2000)  # a journal that takes seconds for them is not waited for
    id = runner.submit(["seq", str(n_lines)])
    runner.wait(id)
    expected = [str(n + 1) for n in range(n_lines)]

    def numbers() -> list[str]:
        return [line for line in lines(scope_of(id)) if line.isdigit()]

    await_that(lambda: len(numbers()) >= len(expected), what="all numbers")
    assert numbers() == expected


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


def test_the_journal_tells_whose_the_runner_was(runner: Runner) -> None:
    """Lost: nobody could tell afterwards for which queue a host worked, and when it changed hands."""

    def take(queue: str, ttl: int) -> str:
        answer = runner.post("/api/v1/lease", json={"queue": queue, "version": "1", "ttl": ttl})
        assert answer.status_code == 201, answer.text
        lease_id: str = answer.json()["lease_id"]
        return lease_id

    lease_id = take("first.example:1", 60)
    assert runner.put(f"/api/v1/lease/{lease_id}").status_code == 200
    id = task_id()
    body = {"command": ["true"]}
    assert runner.post(f"/api/v1/task/{id}", json=body, headers={"Daggyr-Lease": lease_id}).ok
    runner.wait(id)
    assert runner.delete(f"/api/v1/lease/{lease_id}").status_code == 204
    take("second.example:2", 1)

    def told() -> list[tuple[str, str, str]]:
        return [
            (entry["DAGGYR_LEASE_QUEUE"], entry["DAGGYR_LEASE_EPOCH"], entry["MESSAGE"].split()[-1])
            for entry in entries(runner.unit)
            if "DAGGYR_LEASE_QUEUE" in entry
        ]

    await_that(lambda: len(told()) >= 4, what="the end of the second lease")
    assert told() == [
        ("first.example:1", "1", "granted"),
        ("first.example:1", "1", "released"),
        ("second.example:2", "2", "granted"),
        ("second.example:2", "2", "expired"),
    ]
    own = await_that(
        lambda: [entry for entry in entries(scope_of(id)) if "DAGGYR_TASK_ID" in entry],
        what="the entries of the task",
    )
    assert {(entry.get("DAGGYR_QUEUE"), entry.get("DAGGYR_LEASE_EPOCH")) for entry in own} == {
        ("first.example:1", "1")
    }
    run("journalctl", "--update-catalog")
    assert "Subject: Leased to queue first.example:1\n" in run(
        "journalctl", "--quiet", "--catalog", "--unit", runner.unit
    )
