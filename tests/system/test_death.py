# SPDX-License-Identifier: LGPL-2.1-or-later
"""A task never outlives its daggyr, however that ends."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import requests

from bedlib import (
    ROOMY,
    SLOWNESS,
    Runner,
    ShellRunner,
    await_nothing_left,
    await_that,
    load,
    processes_of,
    run,
    submit_brood,
    unit_exists,
    unit_property,
)


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


@pytest.fixture(params=["foreground", "daemonized"])
def shell_runner(request: pytest.FixtureRequest) -> Iterator[ShellRunner]:
    """A daggyr that root has started from a shell, as "daggyr &" and as "daggyr -d"."""
    with ShellRunner(ROOMY, daemonize=request.param == "daemonized") as runner:
        yield runner


def in_background(function: Callable[[], Any]) -> Callable[[], Any]:
    """Starts the function at once; calling what is returned waits for its result."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(function)
    executor.shutdown(wait=False)
    return lambda: future.result(60 * SLOWNESS)


def await_no_processes(*tasks: str) -> None:
    for task in tasks:
        await_that(lambda: not processes_of(task), timeout=5, what=f"the end of {task}")


@pytest.mark.parametrize("stubborn", [False, True], ids=["obedient", "stubborn"])
def test_killing_the_service_ends_every_process_of_every_task(
    runner: Runner, stubborn: bool
) -> None:
    """Lost: after a crash old tasks would run on, unknown to anybody, beside the new ones."""
    tasks = [submit_brood(runner, stubborn, grace=1) for _ in range(3)]
    runner.kill9()
    await_no_processes(*tasks)
    await_nothing_left(*tasks)


def test_killing_a_daggyr_started_from_a_shell_ends_its_tasks(shell_runner: ShellRunner) -> None:
    """Lost: the same for who tries daggyr by hand, where no service stands behind it."""
    tasks = [submit_brood(shell_runner, grace=1) for _ in range(2)]
    shell_runner.kill9()
    await_no_processes(*tasks)
    await_nothing_left(*tasks)
    own = f"daggyr-runner-{shell_runner.main_pid}.scope"
    await_that(lambda: not unit_exists(own), what=f"{own} to be gone")


def test_a_daggyr_started_from_a_shell_runs_tasks_like_a_service(
    shell_runner: ShellRunner,
) -> None:
    """Lost: a first try by hand would not show what the service does."""
    attempt = shell_runner.run(["id", "-un"])
    assert (attempt["result"], attempt["output"]) == ("success", "daggyr-task\n")
    id = submit_brood(shell_runner)
    os.kill(shell_runner.main_pid, signal.SIGTERM)
    await_no_processes(id)
    await_nothing_left(id)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1, signal.SIGABRT, signal.SIGQUIT])
def test_whatever_signal_ends_the_daemon_ends_its_tasks(
    start_runner: Callable[..., Runner], number: signal.Signals
) -> None:
    """Lost: the same for a crash, a Ctrl-C or a closed terminal."""
    runner = start_runner(ROOMY, properties={"LimitCORE": "0"})
    id = submit_brood(runner)
    os.kill(runner.main_pid, number)
    await_that(lambda: runner.state in ("failed", "inactive"), what="the end of the daemon")
    await_no_processes(id)
    await_nothing_left(id)


def test_a_daemon_killed_and_started_again_begins_with_nothing(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: after a crash the new daggyr would promise what old tasks still use."""
    runner = start_runner(ROOMY, properties={"Restart": "on-failure", "RestartSec": "0"})
    tasks = [submit_brood(runner, stubborn=True, grace=20) for _ in range(2)]
    before = runner.main_pid
    os.kill(before, signal.SIGKILL)
    await_that(lambda: runner.main_pid not in (0, before) and runner.state == "active", timeout=30)
    assert [processes_of(task) for task in tasks] == [[], []]
    assert runner.get("/api/v1/tasks").json()["tasks"] == []
    assert runner.run(["true"])["succeeded"]
    await_nothing_left(*tasks)


def test_stopping_the_service_ends_all_tasks(runner: Runner) -> None:
    """Lost: "systemctl stop" would leave tasks behind."""
    tasks = [submit_brood(runner, stubborn=number == 1, grace=1) for number in range(3)]
    runner.stop()
    assert [processes_of(task) for task in tasks] == [[]] * 3
    await_nothing_left(*tasks)


def test_restarting_the_service_ends_all_tasks_before_it_is_ready(runner: Runner) -> None:
    """Lost: "systemctl restart", where systemd by itself lets them live on."""
    tasks = [submit_brood(runner, stubborn=number == 1, grace=1) for number in range(3)]
    before = runner.main_pid
    run("systemctl", "restart", runner.unit)
    assert [processes_of(task) for task in tasks] == [[]] * 3
    assert runner.main_pid != before
    assert runner.get("/api/v1/tasks").json()["tasks"] == []
    assert runner.submit(["true"], tasks[0])  # its name is free again
    assert runner.wait(tasks[0])["succeeded"]
    await_nothing_left(*tasks)


def test_a_daemon_killed_in_the_middle_of_a_restart_leaves_nothing(runner: Runner) -> None:
    """Lost: the one moment in which neither the daemon nor systemd would end the tasks."""
    tasks = [submit_brood(runner, stubborn=True, grace=60) for _ in range(2)]
    before = runner.main_pid
    restart = in_background(lambda: run("systemctl", "restart", runner.unit))
    await_that(lambda: unit_property(runner.unit, "ActiveState") == "deactivating")
    os.kill(before, signal.SIGKILL)
    restart()
    assert [processes_of(task) for task in tasks] == [[], []]
    assert runner.run(["true"])["succeeded"]
    await_nothing_left(*tasks)


def test_sigterm_leaves_tasks_their_grace_and_waiting_clients_their_answer(
    runner: Runner,
) -> None:
    """Lost: with each update of the package, running tasks and their reports would be torn off."""
    script = "trap 'sleep 0.5; echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    id = runner.submit(["sh", "-c", script])
    await_that(lambda: runner.attempt(id)["output"] == "ready\n")
    waiting = in_background(lambda: Runner.wait(_other_client(runner), id))
    deleting = in_background(lambda: Runner.attempt(_other_client(runner), id, wait=30))
    await_that(lambda: _n_connections(runner) >= 3, what="both clients to wait")
    runner.stop()
    for attempt in (waiting(), deleting()):
        assert (attempt["state"], attempt["result"]) == ("killed", "shutdown")
        assert (attempt["output"], attempt["exit_code"]) == ("ready\nbye\n", 0)


def _other_client(runner: Runner) -> Runner:
    """The same daggyr by another connection."""
    other = Runner(runner.config)
    other.unit = runner.unit
    return other


def _n_connections(runner: Runner) -> int:
    port = runner.config["port"]
    return run("ss", "-Htn", "state", "established", f"sport = :{port}").count("\n")


def test_a_stopping_daemon_takes_no_tasks_but_still_answers(runner: Runner) -> None:
    """Lost: tasks accepted in the last second would vanish without a trace."""
    id = submit_brood(runner, stubborn=True, grace=int(6 * SLOWNESS))
    stopping = in_background(lambda: run("systemctl", "stop", runner.unit))
    await_that(lambda: runner.get("/ready").status_code == 503)
    refused = runner.post("/api/v1/task", json={"command": ["true"]})
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert runner.attempt(id)["state"] == "running"
    assert runner.get("/api/v1/capacity").json()["draining"] is True
    stopping()


def test_waiting_tasks_are_canceled_by_a_stop(start_runner: Callable[..., Runner]) -> None:
    """Lost: clients of waiting tasks would see a broken connection instead of an answer."""
    runner = start_runner({"capacity_overrides": {"cores": 1}})
    submit_brood(runner)
    id = runner.submit(["true"])
    waiting = in_background(lambda: Runner.wait(_other_client(runner), id))
    await_that(lambda: _n_connections(runner) >= 2, what="the client to wait")
    time_before = time.monotonic()
    runner.stop()
    attempt = waiting()
    assert attempt["state"] == "killed"
    assert attempt["result"] in ("canceled", "shutdown")
    assert time.monotonic() - time_before < 30 * SLOWNESS


def ends_told(stream: requests.Response) -> dict[str, str]:
    """The results of all tasks of which an event stream tells until it ends."""
    told = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith(b"data: ")]
    return {task["task_id"]: task["result"] for task in told if task.get("result")}


def test_what_ends_with_the_daemon_says_so_whoever_noticed_first(start_runner: Callable[..., Runner]) -> None:
    """Lost: tasks, at each update of a runner: "stopped" or "start-failed" is an end that no queue repeats."""
    for _ in range(load(5)):
        runner = start_runner(ROOMY)
        told = in_background(partial(ends_told, runner.get("/api/v1/events", stream=True)))
        tasks = [runner.submit(["sleep", "infinity"]) for _ in range(24)]
        runner.stop()
        assert told() == dict.fromkeys(tasks, "shutdown")


def test_many_tasks_die_with_the_daemon(runner: Runner) -> None:
    """Lost: what holds for three tasks and not for many."""
    tasks = [
        runner.submit(["sleep", "infinity"], resources={"cores": 0.1, "memory_mb": 16})
        for _ in range(load(60))
    ]
    await_that(lambda: runner.get("/api/v1/capacity").json()["tasks"]["queued"] == 0, timeout=30)
    for task in tasks[-3:]:
        await_that(lambda: processes_of(task))
    runner.kill9()
    await_that(lambda: not [pid for task in tasks for pid in processes_of(task)], timeout=5)
    await_nothing_left(*tasks)


def test_a_task_in_the_middle_of_its_start_dies_too(start_runner: Callable[..., Runner]) -> None:
    """Lost: a parked process, or a scope without a command, from a crash at the wrong moment."""
    for _ in range(load(5)):
        runner = start_runner(ROOMY)
        tasks = [runner.submit(["sleep", "infinity"]) for _ in range(6)]
        runner.kill9()
        await_nothing_left(*tasks)
    # A neighbour's are orphans for a moment as well, when its daemon dies.
    await_that(lambda: run("pgrep", "--parent=1", "--exact", "daggyr-leader", check=False) == "", what="no orphans")
