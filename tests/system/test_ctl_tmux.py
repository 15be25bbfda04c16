# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyctl as it looks in a real terminal, at a shell in tmux."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bedlib import SLOWNESS, Gate, Runner, await_that, open_folder, task_id
from ctllib import environment


class Tmux:
    """A shell in a window of its own."""

    def __init__(self, daemon: Runner, columns: int, lines: int) -> None:
        self.socket = open_folder() / "tmux"
        more = {"LC_ALL": "C.UTF-8"}
        size = ["-x", str(columns), "-y", str(lines)]
        self.tmux("-f", "/dev/null", "new-session", "-d", *size, "sh", env=environment(daemon, **more))
        self.await_text("#")

    def tmux(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        return subprocess.run(
            ["tmux", "-u", "-S", str(self.socket), *arguments],
            env=env, text=True, stdout=subprocess.PIPE, timeout=60 * SLOWNESS, check=True,
        ).stdout

    def type(self, line: str) -> None:
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        self.tmux("send-keys", key)

    def resize(self, columns: int, lines: int) -> None:
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self, *options: str) -> str:
        return self.tmux("capture-pane", "-p", *options)

    def await_text(self, text: str) -> str:
        await_that(lambda: text in self.screen(), timeout=30, what=f"{text!r} on the screen")
        return self.screen()


@contextmanager
def shell(daemon: Runner, columns: int = 120, lines: int = 24) -> Iterator[Tmux]:
    tmux = Tmux(daemon, columns, lines)
    try:
        yield tmux
    finally:
        tmux.tmux("kill-server")


def test_top_comes_and_goes_like_any_full_screen_program(daemon: Runner) -> None:
    """Lost: what was on the screen before, or the picture as soon as a window is made smaller."""
    gate = Gate()
    with shell(daemon) as tmux:
        tmux.type("echo what was there")
        tmux.await_text("\nwhat was there")
        tmux.type("daggyctl top")
        assert "what was there" not in tmux.await_text("0 running")
        id = daemon.submit(["sh", "-c", gate.awaited])
        tmux.await_text("running  ")
        assert id in tmux.screen() and "cores [" in tmux.screen()
        tmux.resize(60, 12)
        await_that(lambda: id in tmux.screen() and "cores [" in tmux.screen(), 30, "a smaller picture")
        assert len(tmux.screen().splitlines()) <= 12
        gate.open()
        tmux.await_text("completed")
        tmux.resize(120, 24)
        tmux.await_text("completed")
        tmux.press("q")
        screen = tmux.await_text("what was there")
        assert "q quits" not in screen
        tmux.type("echo status $?")
        tmux.await_text("status 0")


def test_progress_leaves_nothing_behind(daemon: Runner) -> None:
    """Lost: a line that can be read, where half of another one is still there."""
    gate = Gate()
    name = task_id()
    daemon.submit(["true"], labels={"set": name})
    daemon.submit(["sh", "-c", gate.awaited], labels={"set": name})
    daemon.submit(["false"], labels={"set": name})
    with shell(daemon) as tmux:
        tmux.type(f"daggyctl wait -l set={name}; echo status $?")
        tmux.await_text("2/3 done, 1 failed")
        gate.open()
        screen = tmux.await_text("status 1")
        assert screen.count("completed (success)") == 2 and screen.count("errored (exit-code)") == 1
        assert "done," not in screen


def test_a_list_is_watched_in_place(daemon: Runner) -> None:
    """Lost: a list that follows what happens, without one copy after the other."""
    gate = Gate()
    name = task_id()
    with shell(daemon) as tmux:
        tmux.type(f"daggyctl list --watch -l set={name}")
        id = daemon.submit(["sh", "-c", gate.awaited], labels={"set": name})
        tmux.await_text("running")
        gate.open()
        screen = tmux.await_text("completed")
        tmux.press("C-c")
        tmux.type("echo status $?")
        tmux.await_text("status")
        assert id in screen


def test_colours_are_for_terminals_and_those_who_want_them(daemon: Runner) -> None:
    """Lost: what has failed, at a glance; or a terminal without colours, for those who cannot tell them apart."""
    id = daemon.submit(["false"])
    daemon.wait(id)
    with shell(daemon) as tmux:
        tmux.type("NO_COLOR=1 daggyctl list")
        tmux.await_text("errored")
        assert "\033[" not in tmux.screen("-e")
        tmux.type("clear; daggyctl list")
        tmux.await_text("errored")
        await_that(lambda: "\033[" in tmux.screen("-e"), 30, "colours")
        tmux.type("clear; daggyctl list | cat")
        await_that(lambda: "errored" in tmux.screen() and "\033[" not in tmux.screen("-e"), 30, "none in a pipe")
