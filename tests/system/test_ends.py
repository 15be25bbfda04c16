# SPDX-License-Identifier: LGPL-2.1-or-later
"""How tasks end, and what is told about it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Generator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bedlib import (
    PYTHON,
    ROOMY,
    SLOWNESS,
    Runner,
    await_nothing_left,
    await_that,
    open_folder,
    processes_of,
    run,
    scope_of,
    submit_brood,
    task_id,
    unit_exists,
)

DEAF_CHILD = "trap '' TERM; setsid sleep infinity & trap - TERM;"  # deaf from its first moment on


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


def end_of(attempt: dict[str, Any]) -> tuple[Any, ...]:
    assert attempt["killed"] == (attempt["state"] == "killed")
    assert attempt["succeeded"] == (attempt["state"] == "completed")
    return attempt["state"], attempt["result"], attempt["exit_code"], attempt["signal"]


def duration(attempt: dict[str, Any], since: str = "start") -> float:
    start, stop = (datetime.fromisoformat(attempt[f"{what}_time"]) for what in (since, "stop"))
    return (stop - start).total_seconds()


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_the_exit_code_is_the_commands_own(runner: Runner, code: int) -> None:
    """Lost: the one thing that every client looks at."""
    state, result = ("errored", "exit-code") if code else ("completed", "success")
    assert end_of(runner.run(["sh", "-c", f"exit {code}"])) == (state, result, code, None)


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "HUP"])
def test_an_end_by_signal_names_the_signal(runner: Runner, name: str) -> None:
    """Lost: the difference between a crash and an error that the program reported."""
    attempt = runner.run(["sh", "-c", f"ulimit -c 0; kill -{name} $$"])
    assert end_of(attempt) == ("errored", "signal", -1, f"SIG{name}")


def test_a_core_dump_is_told_from_other_signals(runner: Runner) -> None:
    """Lost: nobody would look for the core file that explains the crash."""
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith("|"):
        pytest.skip("this kernel pipes its core dumps into a program of the host")
    folder = open_folder()
    attempt = runner.run(["sh", "-c", f"cd {folder}; ulimit -c unlimited; kill -QUIT $$"])
    assert end_of(attempt) == ("errored", "core-dump", -1, "SIGQUIT")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("/no/such/program", "No such file or directory"),
        ("no-such-program", "No such file or directory"),
        ("", "No such file or directory"),
        ("/usr/lib", "Permission denied"),
        ("/etc/passwd", "Permission denied"),
    ],
    ids=["path", "name", "empty", "folder", "data"],
)
def test_a_command_that_cannot_be_executed_says_what_and_why(
    runner: Runner, program: str, reason: str
) -> None:
    """Lost: a typo in a command would look like a failure of the program itself."""
    attempt = runner.run([program, "argument"])
    assert end_of(attempt)[:2] == ("errored", "exec-failed")
    assert any(f'"{program}"' in note and reason in note for note in attempt["executor"])
    await_nothing_left(attempt["task_id"])


@pytest.fixture
def no_slice() -> Generator[Callable[[], None], None, None]:
    """systemd refuses every scope of a task, until what this returns is called."""
    run("systemctl", "stop", "daggyr.slice")
    run("systemctl", "mask", "--runtime", "daggyr.slice", stderr=-1)
    unmask = ["systemctl", "unmask", "--runtime", "daggyr.slice"]
    yield lambda: run(*unmask, stderr=-1) and None
    run(*unmask, check=False, stderr=-1)


@pytest.mark.serial
def test_a_scope_that_systemd_refuses_is_told_in_its_words(
    runner: Runner, no_slice: Callable[[], None]
) -> None:
    """Lost: the way to the cause, where something of the site's is in the way."""
    log = open_folder() / "log"
    attempt = runner.run(["sh", "-c", f"> {log}"])
    assert end_of(attempt) == ("errored", "start-failed", None, None)
    assert any("daggyr.slice is masked" in note for note in attempt["executor"]), attempt["executor"]
    assert attempt["start_time"] is None
    assert not log.exists()
    assert runner.get("/api/v1/capacity").json()["tasks"] == {"queued": 0, "running": 0}
    await_nothing_left(attempt["task_id"])
    no_slice()
    assert runner.run(["true"])["succeeded"]


def test_a_scope_of_somebody_else_is_left_alone(runner: Runner) -> None:
    """Lost: the processes of another program that happens to have a unit of the same name."""
    id = task_id()
    foreign = ["systemd-run", "--scope", "--collect", "--quiet", f"--unit={scope_of(id)}"]
    with subprocess.Popen([*foreign, "sleep", "infinity"]) as process:
        await_that(lambda: unit_exists(scope_of(id)), what="the foreign scope")
        try:
            attempt = runner.run(["true"], id=id)
            assert end_of(attempt) == ("errored", "start-failed", None, None)
            assert any("already" in note for note in attempt["executor"])
            assert process.poll() is None
        finally:
            process.terminate()
    assert runner.get("/api/v1/capacity").json()["tasks"] == {"queued": 0, "running": 0}


def test_a_file_that_is_no_program_is_not_given_to_a_shell(runner: Runner) -> None:
    """Lost: a damaged program would be interpreted as shell text, where "no shell" is promised."""
    script = open_folder() / "script"
    script.write_text("#!/no/such/interpreter\necho hi\n")
    script.chmod(0o755)
    assert end_of(runner.run([str(script)]))[:2] == ("errored", "exec-failed")
    binary = open_folder() / "binary"
    binary.write_text("echo hi\n")
    binary.chmod(0o755)
    attempt = runner.run([str(binary)])
    assert (attempt["result"], attempt["output"]) == ("exec-failed", "")


def test_a_task_is_stopped_at_its_timeout(runner: Runner) -> None:
    """Lost: a task that hangs would hold its capacity for ever."""
    attempt = runner.run(["sleep", "infinity"], timeout=2)
    assert end_of(attempt) == ("killed", "timeout", -1, "SIGTERM")
    assert 2 <= duration(attempt, since="submit") and duration(attempt) < 2 + 2 * SLOWNESS
    await_nothing_left(attempt["task_id"])


def test_a_task_that_ignores_sigterm_is_killed_after_its_grace(runner: Runner) -> None:
    """Lost: a stubborn task could not be stopped, or none could clean up after itself."""
    id = submit_brood(runner, stubborn=True, timeout=3 * SLOWNESS, grace=1)
    attempt = runner.wait(id)
    assert processes_of(id) == []
    assert end_of(attempt) == ("killed", "timeout", -1, "SIGKILL")
    assert 1 + 3 * SLOWNESS <= duration(attempt, since="submit")
    assert duration(attempt) < 1 + 6 * SLOWNESS


def test_a_task_may_clean_up_within_its_grace(runner: Runner) -> None:
    """Lost: interrupted tasks would leave locks and half-written files."""
    script = "trap 'sleep 0.3; echo clean; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    id = runner.submit(["sh", "-c", script])
    await_that(lambda: runner.attempt(id)["output"], what="output of the live task")
    runner.delete(f"/api/v1/task/{id}")
    attempt = runner.wait(id)
    assert end_of(attempt) == ("killed", "stopped", 7, None)
    assert attempt["output"] == "ready\nclean\n"


def test_a_second_delete_changes_nothing(runner: Runner) -> None:
    """Lost: an impatient client would take a task's grace away, or its result."""
    grace = 3 * SLOWNESS
    id = submit_brood(runner, stubborn=True, grace=grace)
    start = time.monotonic()
    answers = [runner.delete(f"/api/v1/task/{id}").status_code for _ in range(3)]
    assert answers == [202] * 3
    assert runner.wait(id)["result"] == "stopped"
    assert time.monotonic() - start >= grace


def test_a_task_deleted_while_it_waits_is_canceled(start_runner: Callable[..., Runner]) -> None:
    """Lost: a task that nobody wants any more would still run later."""
    runner = start_runner({"capacity_overrides": {"cores": 1}})
    log = open_folder() / "log"
    first = runner.submit(["sleep", "infinity"])
    second = runner.submit(["sh", "-c", f"echo ran > {log}"])
    attempt = runner.delete(f"/api/v1/task/{second}", params={"wait": 5}).json()
    assert end_of(attempt)[:2] == ("killed", "canceled")
    assert (attempt["start_time"], attempt["exit_code"]) == (None, None)
    runner.delete(f"/api/v1/task/{first}", params={"wait": 5})
    assert runner.run(["true"])["succeeded"]
    assert not log.exists()


def test_an_administrator_stops_a_task_by_its_unit(runner: Runner) -> None:
    """Lost: "systemctl stop" would be reported as a failure of the program."""
    id = submit_brood(runner)
    run("systemctl", "stop", scope_of(id))
    assert end_of(runner.wait(id)) == ("killed", "stopped", -1, "SIGTERM")
    await_nothing_left(id)


def test_a_stubborn_task_stopped_by_its_unit_goes_after_its_grace(runner: Runner) -> None:
    """Lost: "systemctl stop" of a scope would hang, or leave the runner waiting."""
    id = submit_brood(runner, stubborn=True, grace=1)
    run("systemctl", "stop", scope_of(id))
    attempt = runner.wait(id)
    assert (attempt["state"], attempt["result"]) == ("killed", "stopped")
    assert processes_of(id) == []


def test_a_scope_killed_from_outside_has_a_truthful_end(runner: Runner) -> None:
    """Lost: the runner would wait for ever, its capacity gone, or call the task a success."""
    id = submit_brood(runner)
    run("systemctl", "kill", "--signal=KILL", scope_of(id))
    attempt = runner.wait(id)
    assert end_of(attempt) == ("errored", "signal", -1, "SIGKILL")
    capacity = runner.get("/api/v1/capacity").json()
    assert capacity["free"] == capacity["total"]
    await_nothing_left(id)


def test_the_main_process_killed_from_outside_ends_the_task(runner: Runner) -> None:
    """Lost: the same for what the OOM killer of the host, or a person, does to one process."""
    id = submit_brood(runner)
    run("kill", f"-{signal.SIGKILL}", str(min(processes_of(id))))  # the others came later
    assert end_of(runner.wait(id)) == ("errored", "signal", -1, "SIGKILL")
    assert processes_of(id) == []


def test_what_a_task_leaves_behind_is_stopped_and_waited_for(runner: Runner) -> None:
    """Lost: daemons started by tasks would pile up on the machine, outside of any limit."""
    attempt = runner.run(["sh", "-c", f"{DEAF_CHILD} sleep 0.1; exit 3"], grace=1)
    assert processes_of(attempt["task_id"]) == []
    assert end_of(attempt) == ("errored", "exit-code", 3, None)
    assert duration(attempt) >= 1
    await_nothing_left(attempt["task_id"])


def test_obedient_leftovers_delay_nothing(runner: Runner) -> None:
    """Lost: every task that forgets a child would take its whole grace period."""
    attempt = runner.run(["sh", "-c", "sleep infinity & (setsid sleep infinity &) ; sleep 0.1"])
    assert attempt["succeeded"]
    assert duration(attempt) < 5 * SLOWNESS


def test_leftovers_hold_the_capacity_until_they_are_gone(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: the machine would be filled beyond its capacity by tasks on their way out."""
    runner = start_runner({"capacity_overrides": {"cores": 1}})
    first = runner.submit(["sh", "-c", f"{DEAF_CHILD} sleep 0.1"], grace=1)
    second = runner.run(["true"])
    assert second["start_time"] >= runner.attempt(first)["stop_time"]
    assert duration(runner.attempt(first)) >= 1


def test_a_task_stopped_while_its_leftovers_end_keeps_its_result(runner: Runner) -> None:
    """Lost: a DELETE that comes late would turn a success into a kill."""
    id = runner.submit(["sh", "-c", f"{DEAF_CHILD} sleep 0.1; echo done"], grace=int(2 * SLOWNESS))
    await_that(
        lambda: any("exited" in note for note in runner.attempt(id)["executor"]),
        what="the end of the main process",
    )
    assert runner.delete(f"/api/v1/task/{id}").status_code == 202
    assert end_of(runner.wait(id)) == ("completed", "success", 0, None)


def test_a_crash_of_one_runner_does_not_touch_another(start_runner: Callable[..., Runner]) -> None:
    """Lost: two runners on one machine would end each other's tasks."""
    one, other = start_runner(ROOMY), start_runner(ROOMY)
    mine = submit_brood(other)
    one.kill9()
    start_runner(ROOMY).run([PYTHON, "-c", "pass"])
    assert other.attempt(mine)["state"] == "running"
    assert len(processes_of(mine)) == 5
