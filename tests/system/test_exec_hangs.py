# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands whose execution hangs in the kernel: for an on-access scanner, or a file server that does not answer."""

from __future__ import annotations

import ctypes
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from bedlib import SLOWNESS, Runner, await_nothing_left, await_that, free_cores, open_folder

FAN_CLOEXEC, FAN_CLASS_CONTENT = 0x1, 0x4
FAN_MARK_ADD = 0x1
FAN_OPEN_EXEC_PERM = 0x00040000
AT_FDCWD = -100


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    return start_runner({"capacity_overrides": {"cores": 4, "memory_mb": 4096}})


@contextmanager
def held_up(program: str, parent: str = "/tmp") -> Iterator[tuple[str, Callable[[], None]]]:
    """A copy of a program, whose execution a scanner is asked to allow that never answers, until the function that
    is given beside is called, or the block ends.

    The kernel allows everything once the scanner is gone. Nothing here may execute the copy: it would wait for
    itself."""
    path = open_folder(parent) / program
    shutil.copy(f"/usr/bin/{program}", path)
    libc = ctypes.CDLL(None, use_errno=True)
    scanner = libc.fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, os.O_RDONLY)
    if scanner < 0:
        pytest.skip(f"no on-access scanner can be had here: {os.strerror(ctypes.get_errno())}")
    gone = False

    def allow() -> None:
        nonlocal gone
        if not gone:
            os.close(scanner)
        gone = True

    try:
        mask = ctypes.c_uint64(FAN_OPEN_EXEC_PERM)
        if libc.fanotify_mark(scanner, FAN_MARK_ADD, mask, AT_FDCWD, str(path).encode()) < 0:
            pytest.skip(f"this kernel asks no scanner: {os.strerror(ctypes.get_errno())}")
        yield str(path), allow
    finally:
        allow()


def begins(runner: Runner, id: str) -> None:
    """Returns when the task has what it takes, and waits for the kernel to execute its command."""
    await_that(lambda: runner.attempt(id)["state"] == "running", what="the task to have its resources")


def seconds(attempt: dict[str, Any]) -> float:
    """From submission to end."""
    submitted, stopped = (datetime.fromisoformat(attempt[f"{what}_time"]) for what in ("submit", "stop"))
    return (stopped - submitted).total_seconds()


def test_a_command_that_does_not_begin_is_stopped_at_its_timeout(runner: Runner) -> None:
    """Lost: each such task takes its cores for ever, until the host has none left."""
    with held_up("true") as (path, _):
        id = runner.submit([path], timeout=SLOWNESS)
        begins(runner, id)
        assert free_cores(runner) == 3
        attempt = runner.wait(id, 20)
        assert (attempt["state"], attempt["result"]) == ("killed", "timeout"), attempt
        assert (attempt["start_time"], attempt["exit_code"], attempt["signal"]) == (None, None, None)
        assert SLOWNESS <= seconds(attempt) < 5 * SLOWNESS
        assert free_cores(runner) == 4
        await_nothing_left(id)


def test_a_command_that_does_not_begin_is_stopped_by_delete(runner: Runner) -> None:
    """Lost: nobody gets rid of it."""
    with held_up("true") as (path, _):
        id = runner.submit([path])
        begins(runner, id)
        began = time.monotonic()
        assert runner.delete(f"/api/v1/task/{id}").status_code == 202
        attempt = runner.wait(id, 20)
        assert (attempt["result"], attempt["start_time"]) == ("stopped", None), attempt
        assert time.monotonic() - began < 4 * SLOWNESS
        assert free_cores(runner) == 4
        await_nothing_left(id)


def test_a_command_that_does_not_begin_says_so_and_goes_on_when_it_can(runner: Runner) -> None:
    """Lost: why a task does nothing; and other tasks, if they had to wait for it."""
    with held_up("true") as (path, allow):
        id = runner.submit([path])
        begins(runner, id)
        assert runner.run(["true"])["succeeded"]
        attempt = await_that(
            lambda: next((a for a in [runner.attempt(id)] if a["executor"]), None), timeout=20, what="a note"
        )
        assert (attempt["state"], attempt["start_time"]) == ("running", None), attempt
        assert "has not begun" in attempt["executor"][0]
        allow()
        attempt = runner.wait(id)
    assert (attempt["result"], attempt["start_time"] is not None) == ("success", True), attempt


@pytest.mark.plain
def test_the_time_that_a_command_takes_to_begin_counts_to_its_timeout(runner: Runner) -> None:
    """Lost: what a time limit is for, which is how long the resources are taken."""
    with held_up("sleep") as (path, allow):
        id = runner.submit([path, "infinity"], timeout=4 * SLOWNESS)
        begins(runner, id)
        began = time.monotonic()
        await_that(lambda: time.monotonic() - began > 3 * SLOWNESS, what="three of its four seconds to pass")
        allow()
        attempt = runner.wait(id)
    assert (attempt["result"], attempt["signal"]) == ("timeout", "SIGTERM"), attempt
    assert seconds(attempt) < 6.5 * SLOWNESS


def test_a_daemon_is_stopped_while_a_command_does_not_begin(runner: Runner) -> None:
    """Lost: an update or a shutdown of the host would wait for a file server."""
    with held_up("true") as (path, _):
        id = runner.submit([path])
        begins(runner, id)
        began = time.monotonic()
        runner.stop()
        assert time.monotonic() - began < 10 * SLOWNESS
        await_nothing_left(id)
