# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a task's process finds: its account, environment, streams, directory, and what it must not have."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bedlib import (
    CAP_SYS_RESOURCE,
    PYTHON,
    ROOMY,
    Runner,
    await_that,
    init_has,
    open_folder,
    processes_of,
    run,
    scope_of,
    task_id,
)

TASK_USER = "daggyr-task"


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with secrets in its own environment, and room for everything."""
    return start_runner(ROOMY, properties={"Environment": "SECRET=1 PASSED=2"})


def environment_of(attempt: dict[str, str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in attempt["output"].splitlines())


def clean_base(id: str, user: str) -> dict[str, str]:
    account = pwd.getpwnam(user)
    assert Path(account.pw_shell).name == "nologin", "this account was to be one that cannot log in"
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": account.pw_dir,
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "DAGGYR_TASK_ID": id,
        "DAGGYR_UNIT": scope_of(id),
    }


def test_the_environment_is_the_clean_base_and_what_was_asked_for(runner: Runner) -> None:
    """Lost: secrets of the daemon would leak to tasks, and tasks depend on how it was started."""
    id = runner.submit(["env"], environment={"A": "", "LANG": "C", "B": "x=y z"})
    assert environment_of(runner.wait(id)) == clean_base(id, TASK_USER) | {
        "A": "",
        "LANG": "C",
        "B": "x=y z",
    }


def test_programs_that_start_a_shell_find_one(start_runner: Callable[..., Runner]) -> None:
    """Lost: script, ssh's ProxyCommand, vim and others, which run $SHELL: "This account is currently not available"."""
    user = task_id("s").replace(".", "-")
    run("useradd", "--system", "--no-create-home", "--shell", "/bin/bash", user)
    runner = start_runner(ROOMY | {"allowed_users": [user]})
    attempt = runner.run(["script", "-qec", "echo hi", "/dev/null"])
    assert (attempt["exit_code"], attempt["output"].strip()) == (0, "hi"), attempt
    assert runner.run(["sh", "-c", "echo $SHELL"], user=user)["output"] == "/bin/bash\n"


@pytest.mark.parametrize("path", [":/usr/bin:/bin", "/usr/bin:", "/nowhere::/usr/bin", ""])
def test_an_empty_directory_in_path_is_the_current_one(runner: Runner, path: str) -> None:
    """Lost: commands that POSIX finds; and a program of the root directory would be run in their place."""
    folder = open_folder()
    command = folder / "here"
    command.write_text("#!/bin/sh\necho found\n")
    command.chmod(0o755)
    attempt = runner.run(["here"], environment={"PATH": path}, working_directory=str(folder))
    assert (attempt["result"], attempt["output"]) == ("success", "found\n"), attempt


def test_variables_are_passed_on_when_configured(start_runner: Callable[..., Runner]) -> None:
    """Lost: sites could not hand a proxy or a license server to all tasks."""
    runner = start_runner(
        ROOMY | {"pass_environment": ["PASSED", "OVERRIDDEN", "ABSENT"]},
        properties={"Environment": "SECRET=1 PASSED=2 OVERRIDDEN=3"},
    )
    id = runner.submit(["env"], environment={"OVERRIDDEN": "4"})
    expected = clean_base(id, TASK_USER) | {"PASSED": "2", "OVERRIDDEN": "4"}
    assert environment_of(runner.wait(id)) == expected


def test_a_task_has_no_privileges_to_abuse(runner: Runner) -> None:
    """Lost: whoever may submit a task would own the machine."""
    status = dict(
        line.split(":\t", 1)
        for line in runner.run(["cat", "/proc/self/status"])["output"].splitlines()
        if ":\t" in line
    )
    account = pwd.getpwnam(TASK_USER)
    assert status["Uid"].split() == [str(account.pw_uid)] * 4
    assert status["Gid"].split() == [str(account.pw_gid)] * 4
    assert status["Groups"].split() in ([], [str(account.pw_gid)])
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities], 16) == 0, capabilities
    assert status["NoNewPrivs"] == "1"
    for signals in ("SigBlk", "SigIgn", "SigCgt"):
        assert int(status[signals], 16) == 0, signals


def test_a_task_has_only_its_three_streams(runner: Runner) -> None:
    """Lost: a task could speak to systemd through an inherited connection."""
    links = runner.run(["sh", "-c", "ls -l /proc/$$/fd; true"])["output"].splitlines()[1:]
    assert sorted(line.split()[8] for line in links) == ["0", "1", "2"]
    assert not [line for line in links if "socket" in line or "/dev/pts" in line]


def test_a_task_can_neither_signal_nor_trace_the_daemon_and_its_leader(runner: Runner) -> None:
    """Lost: a task could take over the process that guards it."""
    script = f"""
import os
for pid in ({runner.main_pid}, os.getppid()):
    for act in (lambda: os.kill(pid, 0), lambda: open(f"/proc/{{pid}}/environ").read(),
                lambda: open(f"/proc/{{pid}}/mem"), lambda: os.listdir(f"/proc/{{pid}}/fd")):
        try:
            act()
            print("could", pid)
        except PermissionError:
            pass
print("done")
"""
    attempt = runner.run([PYTHON, "-c", script])
    assert (attempt["output"], attempt["error"]) == ("done\n", "")


def test_a_task_is_a_session_of_its_own_without_a_terminal(runner: Runner) -> None:
    """Lost: a signal to one task's group could reach others, or a task read a terminal."""
    script = "import os; print(os.getsid(0) == os.getpgrp() == os.getpid()); os.open('/dev/tty', os.O_RDWR)"
    attempt = runner.run([PYTHON, "-c", script])
    assert attempt["output"] == "True\n"
    assert "No such device or address" in attempt["error"]


@pytest.mark.parametrize(
    "text", ["", "one line", "ü\n" * 100, "x" * 500_000], ids=["none", "line", "lines", "large"]
)
def test_a_task_reads_what_was_given_as_stdin(runner: Runner, text: str) -> None:
    """Lost: tasks that take their input from stdin, also more than a pipe holds."""
    attempt = runner.run(["cat"], stdin=text)
    assert attempt["output"] == text
    assert attempt["succeeded"]


def test_stdin_that_is_not_read_harms_nobody(runner: Runner) -> None:
    """Lost: a task that ignores its input would hang or die of a broken pipe."""
    assert runner.run(["true"], stdin="x" * 500_000)["succeeded"]


BY_NAME = """
echo a >/dev/stdout; echo b >/dev/stderr; echo c | tee /dev/stderr; echo d >/proc/self/fd/1; cat /dev/stdin; cat /dev/fd/0
"""


@pytest.mark.parametrize("fields", [{}, {"user": "games"}], ids=["task_user", "user"])
def test_a_task_opens_its_streams_by_name(start_runner: Callable[..., Runner], fields: dict[str, str]) -> None:
    """Lost: the many programs and images that log to /dev/stdout or /dev/stderr fail."""
    runner = start_runner(ROOMY | {"allowed_users": ["games"]})
    attempt = runner.run(["sh", "-ec", BY_NAME], stdin="in\n", **fields)
    assert (attempt["output"], attempt["error"]) == ("a\nc\nd\nin\nin\n", "b\nc\n")
    assert attempt["succeeded"]
    assert runner.run(["sh", "-ec", "cat /dev/stdin"], **fields)["succeeded"]


def test_nobody_else_opens_the_streams_of_a_task(runner: Runner) -> None:
    """Lost: whoever got hold of a stream reads another account's input, or steals its output."""
    id = runner.submit(["sleep", "infinity"], stdin="secret")
    pid = await_that(lambda: processes_of(id), what="the command")[0]
    account = pwd.getpwnam(TASK_USER)
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDWR), (2, os.O_RDWR)):
        found = os.stat(f"/proc/{pid}/fd/{fd}")
        assert (found.st_uid, found.st_gid) == (account.pw_uid, account.pw_gid), fd
        assert stat.S_IMODE(found.st_mode) & 0o077 == 0, fd
        held = os.open(f"/proc/{pid}/fd/{fd}", os.O_PATH)
        script = f"import os; os.open('/proc/self/fd/{held}', {flags})"
        for stranger in ("games", "daggyr"):
            rights = ["setpriv", f"--reuid={stranger}", f"--regid={stranger}", "--clear-groups"]
            opened = subprocess.run(
                [*rights, PYTHON, "-c", script], pass_fds=[held], check=False, capture_output=True, text=True
            )
            assert "PermissionError" in opened.stderr, (fd, stranger, opened)
        os.close(held)
    runner.delete(f"/api/v1/task/{id}")


def test_no_device_of_the_host_is_given_away(runner: Runner) -> None:
    """Lost: /dev/null becomes a task's, as the stdin of one that was given none."""
    before = os.stat("/dev/null")
    assert runner.run(["cat"])["succeeded"]
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


@pytest.mark.parametrize(
    ("field", "expected"), [({}, "0022"), ({"umask": "0077"}, "0077"), ({"umask": 0o27}, "0027")]
)
def test_the_umask_is_the_one_asked_for(
    runner: Runner, field: dict[str, str | int], expected: str
) -> None:
    """Lost: files of a task would be readable by the wrong people."""
    assert runner.run(["sh", "-c", "umask"], **field)["output"] == f"{expected}\n"


def test_a_task_starts_in_its_home_or_where_asked(runner: Runner) -> None:
    """Lost: relative paths in commands would mean something else."""
    assert runner.run(["pwd"])["output"] == pwd.getpwnam(TASK_USER).pw_dir + "\n"
    assert runner.run(["pwd"], working_directory="/usr/lib")["output"] == "/usr/lib\n"


def test_a_directory_that_cannot_be_entered_is_the_tasks_failure(runner: Runner) -> None:
    """Lost: a task would run in a directory that nobody asked for, and delete or build there."""
    closed = open_folder()
    closed.chmod(0o700)
    for path, reason in (("/no/such", "No such file"), (str(closed), "Permission denied")):
        attempt = runner.run(["touch", "x"], working_directory=path)
        assert (attempt["state"], attempt["result"]) == ("errored", "exec-failed")
        assert any(path in note and reason in note for note in attempt["executor"])


def test_only_allowed_users_can_be_asked_for(start_runner: Callable[..., Runner]) -> None:
    """Lost: a client could run a task as anybody."""
    runner = start_runner(ROOMY | {"allowed_users": ["games", "nobody-there"]})
    assert runner.run(["id", "-un"], user="games")["output"] == "games\n"
    assert runner.run(["id", "-un"], user=TASK_USER)["output"] == f"{TASK_USER}\n"
    assert runner.run(["env"], user="games")["output"].count("USER=games\n") == 1
    for user, status in (("root", 403), ("daggyr", 403), ("mail", 403), ("nobody-there", 422)):
        body = {"command": ["id"], "user": user}
        answer = runner.post(f"/api/v1/task/{task_id()}", json=body)
        assert (answer.status_code, answer.json()["field"]) == (status, "/user")


@pytest.mark.serial  # changes the groups of an account that other tests use
def test_supplementary_groups_of_neither_account_reach_a_task(start_runner: Callable[..., Runner]) -> None:
    """Lost: a task could open whatever a group of the daemon may, its socket for one."""
    runner = start_runner(ROOMY | {"allowed_users": ["games"]})
    run("usermod", "--append", "--groups", "daggyr,disk", "games")
    try:
        assert "disk" in run("id", "-nG", "games").split()
        for user in ("games", TASK_USER):
            groups = runner.run(["id", "-G"], **({"user": user} if user != TASK_USER else {}))["output"]
            assert groups == f"{pwd.getpwnam(user).pw_gid}\n"
    finally:
        run("usermod", "--groups", "", "games")


def test_the_oom_killer_spares_the_leader_and_no_task(runner: Runner) -> None:
    """Lost: who is to tell of an OOM kill; or the host's last resort, to a task that spares itself."""
    script = (
        "cat /proc/$PPID/oom_score_adj /proc/self/oom_score_adj;"
        "echo 5 > /proc/$$/oom_score_adj; echo 0 > /proc/$$/oom_score_adj && cat /proc/$$/oom_score_adj;"
        "echo -1 > /proc/$$/oom_score_adj || cat /proc/$$/oom_score_adj"
    )
    scores = runner.run(["sh", "-c", script])["output"].split()
    assert scores == ["-1000" if init_has(CAP_SYS_RESOURCE) else "0", "0", "0", "0"]


def test_a_task_inherits_no_limits_of_the_daemon(runner: Runner) -> None:
    """Lost: tasks would run at the daemon's priority."""
    usual = os.getpriority(os.PRIO_PROCESS, 1)  # systemd hands on what it was started with
    assert runner.run(["nice"])["output"] == f"{usual}\n"
    assert os.getpriority(os.PRIO_PROCESS, runner.main_pid) <= usual
