# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes that SIGKILL does not end: as long as they live, their task is not over."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bedlib import (
    Runner,
    await_nothing_left,
    await_that,
    cgroup_procs,
    free_cores,
    open_folder,
    processes_of,
    remains_of,
    run,
    scope_of,
    task_id,
    unit_property,
)

FREEZER = Path("/sys/fs/cgroup/freezer")

pytestmark = pytest.mark.skipif(
    not (FREEZER / "cgroup.procs").exists(),
    reason="a process that is frozen with cgroup v2 can be killed: no v1 freezer, nothing that is unkillable",
)


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    return start_runner({"capacity_overrides": {"cores": 4, "memory_mb": 4096}})


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[Callable[[], None]]:
    """Keeps processes from taking any step, their own end among them, until the function it gives is called, or
    the block ends."""
    folder = FREEZER / task_id("daggyr-test")
    folder.mkdir()

    def thaw() -> None:
        (folder / "freezer.state").write_text("THAWED")

    try:
        for pid in pids:
            (folder / "cgroup.procs").write_text(str(pid))
        (folder / "freezer.state").write_text("FROZEN")
        await_that(lambda: (folder / "freezer.state").read_text() == "FROZEN\n", what="processes to freeze")
        yield thaw
    finally:
        thaw()
        await_that(lambda: not (folder / "cgroup.procs").read_text(), timeout=60, what="the end of the frozen")
        folder.rmdir()


def sleepers(runner: Runner, id: str) -> list[int]:
    """The processes of the task that sleep, once it has any."""
    return await_that(
        lambda: [pid for pid in processes_of(id) if Path(f"/proc/{pid}/comm").read_text() == "sleep\n"],
        what="a process of the task to sleep",
    )


def unkillable(runner: Runner) -> int:
    return int(re.findall(r"^daggyr_tasks_unkillable (\d+)$", runner.get("/metrics").text, re.M)[0])


def is_told(runner: Runner, id: str) -> bool:
    """Whether the attempt says that there is something left. A task that is said to have ended is a failure."""
    attempt = runner.attempt(id)
    assert (attempt["state"], attempt["stop_time"]) == ("running", None), attempt
    return any("SIGKILL" in note for note in attempt["executor"])


def await_systemd_gives_up(id: str) -> None:
    """So that processes end after it, not in the very moment: the order is the test's."""
    await_that(
        lambda: unit_property(scope_of(id), "ActiveState") == "failed",
        timeout=60,
        what="systemd to give up on the scope",
    )


def await_end(id: str) -> None:
    """systemd may miss the end of the last process in a scope on which it has given up, and keep the scope, failed,
    with its empty cgroups (seen of one in some hundred on systemd 252, in some dozens on 257). What is empty can be
    removed."""

    def is_gone() -> bool:
        run("systemctl", "reset-failed", scope_of(id), check=False, stderr=subprocess.DEVNULL)
        for folder in (left for left in remains_of(id) if left.startswith("/")):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
        return not remains_of(id)

    await_that(is_gone, what="the end of the last process")


def test_a_task_that_cannot_be_killed_keeps_what_it_has_until_it_is_gone(runner: Runner) -> None:
    """Lost: a host is filled beyond its capacity beside processes that still hold their memory, and nobody is
    told."""
    fields = {"grace": 0, "resources": {"cores": 1, "memory_mb": 64}}
    id = runner.submit(["sleep", "infinity"], **fields)
    with frozen(*sleepers(runner, id)) as thaw:
        assert runner.delete(f"/api/v1/task/{id}").status_code == 202
        await_that(lambda: is_told(runner, id), timeout=30, what="a note")
        await_systemd_gives_up(id)
        assert is_told(runner, id)
        assert (free_cores(runner), unkillable(runner)) == (3, 1)
        assert runner.journal().count("outlive SIGKILL") == 1
        same = runner.post(f"/api/v1/task/{id}", json={"command": ["sleep", "infinity"]} | fields)
        other = runner.post(f"/api/v1/task/{id}", json={"command": ["true"]})
        assert (same.status_code, same.json()["state"], other.status_code) == (200, "running", 409)
        assert runner.delete(f"/api/v1/task/{id}").status_code == 202
        assert runner.run(["true"])["succeeded"]
        thaw()
        attempt = runner.wait(id)
    assert (attempt["state"], attempt["result"], attempt["signal"]) == ("killed", "stopped", "SIGKILL"), attempt
    assert not any("outside" in note for note in attempt["executor"]), attempt
    assert (free_cores(runner), unkillable(runner)) == (4, 0)
    assert runner.journal().count("outlive SIGKILL") == 1
    await_end(id)
    assert runner.delete(f"/api/v1/task/{id}").status_code == 204
    assert runner.wait(runner.submit(["true"], id))["succeeded"]


def test_what_a_command_leaves_behind_that_cannot_be_killed_is_waited_for(runner: Runner) -> None:
    """Lost: the same for a command that ended long ago, whose result is then told too early, or is forgotten."""
    go = open_folder() / "go"
    script = f"setsid sleep infinity & while [ ! -e {go} ]; do :; done; exit 3"
    id = runner.submit(["sh", "-c", script], grace=0)
    with frozen(*sleepers(runner, id)) as thaw:
        go.touch()
        await_that(lambda: is_told(runner, id), timeout=30, what="a note")
        await_systemd_gives_up(id)
        assert (is_told(runner, id), free_cores(runner)) == (True, 3)
        thaw()
        attempt = runner.wait(id)
    assert (attempt["state"], attempt["result"], attempt["exit_code"]) == ("errored", "exit-code", 3), attempt
    assert free_cores(runner) == 4
    await_end(id)


def test_a_task_whose_watching_process_cannot_be_killed_either_says_so(runner: Runner) -> None:
    """Lost: the reason why a task does not end, where all of its scope is stuck."""
    id = runner.submit(["sleep", "infinity"], grace=0)
    sleepers(runner, id)
    with frozen(*cgroup_procs(scope_of(id))) as thaw:
        assert runner.delete(f"/api/v1/task/{id}").status_code == 202
        await_that(lambda: is_told(runner, id), timeout=30, what="a note")
        assert (free_cores(runner), unkillable(runner)) == (3, 1)
        thaw()
        assert runner.wait(id)["result"] == "stopped"
    assert (free_cores(runner), unkillable(runner)) == (4, 0)
    await_nothing_left(id)


@pytest.mark.parametrize("with_leader", [False, True], ids=["task", "whole-scope"])
def test_a_daemon_that_is_stopped_does_not_wait_for_what_cannot_be_killed(
    runner: Runner, with_leader: bool
) -> None:
    """Lost: an update or a shutdown of the host hangs for the hour that the unit leaves to grace periods."""
    id = runner.submit(["sleep", "infinity"], grace=0)
    pids = sleepers(runner, id)
    with frozen(*(cgroup_procs(scope_of(id)) if with_leader else pids)):
        run("systemctl", "stop", "--no-block", runner.unit)
        await_that(lambda: runner.state == "inactive", timeout=50, what="the end of the daemon")
        assert unit_property(runner.unit, "Result") == "success"
        await_systemd_gives_up(id)
    await_end(id)
