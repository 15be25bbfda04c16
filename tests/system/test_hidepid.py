# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hardened host, where /proc shows nobody the processes of other accounts."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from bedlib import (
    PYTHON,
    ROOMY,
    SLOWNESS,
    Runner,
    await_nothing_left,
    await_that,
    run,
    submit_brood,
    unit_property,
)

pytestmark = pytest.mark.serial

# "4" and "ptraceable" are the same; mount(8) of some ages knows only one of the two.
HIDEPID = ("1", "2", "4")


@pytest.fixture(params=HIDEPID)
def runner(request: pytest.FixtureRequest, start_runner: Callable[..., Runner]) -> Iterator[Runner]:
    """The mount is the bed's own; services that have a mount namespace share its options."""
    run("mount", "-o", f"remount,hidepid={request.param}", "/proc")
    try:
        stranger = ["setpriv", "--reuid=daggyr-task", "--regid=daggyr-task", "--clear-groups"]
        shown = run(*stranger, "cat", "/proc/1/cgroup", check=False, stderr=subprocess.DEVNULL)
        assert not shown, "/proc hides nothing"
        yield start_runner(ROOMY)
    finally:
        run("mount", "-o", "remount,hidepid=0", "/proc")


def test_sigterm_reaches_a_task_and_all_it_started(runner: Runner) -> None:
    """Lost: nothing of a task ends in order on a hardened host, and each takes five seconds more."""
    gentle = runner.submit(["sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done"])
    brood = submit_brood(runner)
    await_that(lambda: runner.attempt(gentle)["output"] == "up\n", what="the trap")
    began = time.monotonic()
    for id in (gentle, brood):
        assert runner.delete(f"/api/v1/task/{id}").status_code == 202
    attempt = runner.wait(gentle)
    assert (attempt["result"], attempt["output"], attempt["exit_code"]) == ("stopped", "up\nbye\n", 3)
    assert (runner.wait(brood)["result"], runner.attempt(brood)["signal"]) == ("stopped", "SIGTERM")
    assert time.monotonic() - began < 5 * SLOWNESS
    await_nothing_left(gentle, brood)


def test_sigkill_follows_after_the_grace_period(runner: Runner) -> None:
    """Lost: systemd is left to clear up, and what the task used is never read."""
    id = submit_brood(runner, stubborn=True, grace=0.2)
    assert runner.delete(f"/api/v1/task/{id}").status_code == 202
    attempt = runner.wait(id)
    assert (attempt["result"], attempt["signal"]) == ("stopped", "SIGKILL")
    assert not any("systemd" in note or "outside" in note for note in attempt["executor"]), attempt
    await_nothing_left(id)


def test_what_a_task_used_is_known(runner: Runner) -> None:
    """Lost: accounting, for everybody whose host is hardened."""
    attempt = runner.run([PYTHON, "-c", "x = bytearray(40 << 20); [i for i in range(3000000)]"])
    assert attempt["state"] == "completed", attempt
    assert attempt["usage"]["cpu_time"] > 0.02
    assert attempt["usage"]["memory_peak"] > 40 << 20


def test_what_a_command_leaves_behind_is_ended(runner: Runner) -> None:
    """Lost: each left-over process outlives its task by the grace period and five seconds."""
    began = time.monotonic()
    attempt = runner.run(["sh", "-c", "setsid sleep infinity & exit 0"])
    assert (attempt["state"], time.monotonic() - began < 5 * SLOWNESS) == ("completed", True), attempt
    assert "left processes behind, which were stopped" in attempt["executor"]


def test_an_oom_kill_ends_the_task(runner: Runner) -> None:
    """Lost: what is left of a task goes on without its largest part."""
    script = f"{PYTHON} -c 'x = bytearray(200 << 20)'; exec sleep infinity"
    id = runner.submit(["sh", "-c", script], resources={"cores": 1, "memory_mb": 32})
    attempt = runner.wait(id)
    assert (attempt["result"], attempt["state"]) == ("oom-kill", "errored"), attempt
    await_nothing_left(id)


def kill_bus() -> None:
    """Returns when there is another one. Only what is seen to be dead is started again: while the one killed is about
    to die its start succeeds at once, and the next kill would meet its successor's start, and fail it."""
    before = unit_property("dbus.service", "MainPID")
    run("systemctl", "kill", "--signal=KILL", "dbus.service")
    await_that(lambda: unit_property("dbus.service", "MainPID") != before, what="the end of the bus")
    run("systemctl", "reset-failed", "dbus.service", "dbus.socket")
    run("systemctl", "start", "dbus.socket", "dbus.service")


def test_tasks_start_while_the_bus_is_killed_again_and_again(runner: Runner) -> None:
    """Lost: a scope that was asked for twice, as its first answer was lost, is not known as the task's own."""
    ids = []
    for _ in range(8):
        ids += [runner.submit(["true"], resources={"cores": 0.1, "memory_mb": 16}) for _ in range(10)]
        kill_bus()
    for id in ids:
        attempt = runner.wait(id)
        assert attempt["state"] == "completed", attempt
