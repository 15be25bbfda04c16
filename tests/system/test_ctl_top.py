# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyctl top, on a terminal."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bedlib import ROOMY, Runner, await_that, open_folder, task_id
from ctllib import Terminal, ctl

Starter = Callable[..., Any]


@pytest.fixture
def runner(start_runner: Starter) -> Runner:
    return start_runner(ROOMY)


def test_top_shows_what_comes_and_goes(daemon: Runner) -> None:
    """Lost: a look at a machine at work."""
    folder = open_folder()
    with Terminal(daemon, "top") as terminal:
        terminal.await_text("0 running")
        id = daemon.submit(["sh", "-c", f"while [ ! -e {folder}/go ]; do sleep 0.05; done"])
        screen = terminal.await_text(id)
        terminal.await_text("running  ")
        assert "cores [" in screen and "memory [" in screen
        (folder / "go").touch()
        terminal.await_text("completed")
        terminal.press("q")
        assert terminal.end() == 0
        assert terminal.is_restored()


def test_top_follows_the_terminals_size(runner: Runner) -> None:
    """Lost: the picture, whenever a window is made smaller."""
    ids = [runner.submit(["sleep", "100"]) for _ in range(12)]
    with Terminal(runner, "top", lines=24, columns=120) as terminal:
        terminal.await_text(ids[-1])
        terminal.resize(10, 50)
        await_that(lambda: terminal.read() and not terminal.screen.is_stale, what="a smaller picture")
        terminal.await_text(ids[0])
        assert all(len(row) <= 50 for row in terminal.screen.rows)
        assert ids[-1] not in str(terminal.screen)
        terminal.resize(30, 100)
        terminal.await_text(ids[-1])
        terminal.press("q")
        assert terminal.end() == 0


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 0),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
        (signal.SIGQUIT, -signal.SIGQUIT),
        (signal.SIGUSR1, -signal.SIGUSR1),
        (signal.SIGABRT, -signal.SIGABRT),
    ],
)
def test_every_end_gives_the_terminal_back(runner: Runner, number: signal.Signals, status: int) -> None:
    """Lost: a terminal that shows what is typed."""
    with Terminal(runner, "top") as terminal:
        terminal.await_text("0 running")
        assert not terminal.is_restored()
        terminal.send(number)
        assert terminal.end() == status
        assert terminal.is_restored()


def state_of(pid: int) -> str:
    """A process' state, by its letter in /proc."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_top_can_be_suspended(runner: Runner) -> None:
    """Lost: the shell behind it, for a moment."""
    with Terminal(runner, "top") as terminal:
        terminal.await_text("0 running")
        terminal.send(signal.SIGTSTP)
        await_that(terminal.is_restored, what="the terminal as it was")
        await_that(lambda: state_of(terminal.process.pid) == "T", what="it to be stopped")
        terminal.send(signal.SIGCONT)
        terminal.await_text("0 running")
        id = runner.submit(["sleep", "100"])
        terminal.await_text(id)
        terminal.press("q")
        assert terminal.end() == 0 and terminal.is_restored()


def test_nothing_is_asked_while_nothing_happens(runner: Runner) -> None:
    """Lost: the rest of a machine that does nothing."""

    def asked() -> int:
        lines = [line for line in runner.get("/metrics").text.splitlines() if "http_requests_total{" in line]
        return sum(int(line.rsplit(" ", 1)[1]) for line in lines if "/metrics" not in line)

    with Terminal(runner, "top") as terminal:
        first = terminal.await_text("0 running")
        before = asked()
        await_that(lambda: terminal.read() and str(terminal.screen) != first, what="the clock to go on")
        second = str(terminal.screen)
        await_that(lambda: terminal.read() and str(terminal.screen) != second, what="the clock to go on")
        assert asked() == before
        terminal.press("q")
        assert terminal.end() == 0


def test_a_lost_connection_is_shown_and_comes_back(runner: Runner) -> None:
    """Lost: the difference between quiet and cut off."""
    with Terminal(runner, "top") as terminal:
        terminal.await_text("0 running")
        runner.stop()
        terminal.await_text("CONNECTION LOST")
        runner.start()
        await_that(lambda: terminal.read() and "LOST" not in str(terminal.screen), timeout=30)
        id = runner.submit(["sleep", "100"])
        terminal.await_text(id)
        terminal.press("q")
        assert terminal.end() == 0


def test_top_needs_a_terminal_and_a_daemon(runner: Runner) -> None:
    """Lost: a word about what is missing, where it can be read."""
    piped = ctl(runner, "top")
    assert piped.returncode == 2 and "list --watch" in piped.stderr
    with Terminal("http://127.0.0.1:1", "top") as terminal:
        assert terminal.end() == 123
        assert "does not answer" in terminal.raw and terminal.is_restored()


def test_names_cannot_reprogram_the_terminal(runner: Runner) -> None:
    """Lost: the terminal, to whoever may submit a task."""
    runner.submit(["sh", "-c", "exec sleep 100", "\033[2Jevil\033]0;title\a"], labels={"x": task_id()})
    with Terminal(runner, "top", columns=200) as terminal:
        terminal.await_text("evil")
        assert "\033]0" not in terminal.raw and "\a" not in terminal.raw
        terminal.press("q")
        assert terminal.end() == 0
