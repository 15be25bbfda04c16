# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyctl as people use it: to its end, or on a terminal."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from typing import Any

from bedlib import SLOWNESS, Runner, await_that


def environment(daemon: Runner | str, **more: str) -> dict[str, str]:
    where = daemon if isinstance(daemon, str) else daemon.url
    return os.environ | {"DAGGYCTL_HOST": where, "DAGGYCTL_TOKEN_FILE": "", "TERM": "xterm"} | more


def ctl(daemon: Runner | str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs daggyctl to its end."""
    more = options.pop("env", {})
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        ["daggyctl", *arguments],
        env=environment(daemon, **more),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=120 * SLOWNESS,
        **options,
    )


def good(daemon: Runner | str, *arguments: str, **options: Any) -> str:
    """The same; it must succeed and say nothing on stderr."""
    done = ctl(daemon, *arguments, **options)
    assert (done.returncode, done.stderr) == (0, ""), f"{arguments}: {done}"
    return done.stdout


class Screen:
    """What a terminal's second screen, which daggyctl draws on, shows of what is written."""

    def __init__(self, lines: int, columns: int) -> None:
        self.resize(lines, columns)
        self.is_stale = False
        self.begun = ""
        self.alternate = False
        self.has_cursor = True

    def resize(self, lines: int, columns: int) -> None:
        self.lines, self.columns = lines, columns
        self.rows = [""] * lines
        self.line = self.column = 0
        self.is_stale = True  # until a whole picture has fitted: one may be under way for the size before
        self.fits = False

    def _misfit(self, what: str) -> None:
        assert self.is_stale, what
        self.fits = False

    def feed(self, text: str) -> None:
        """What is read may end within a sequence, which goes on with the next."""
        whole, self.begun = re.fullmatch(r"(.*?)(\033(?:\[[?0-9;]*)?)?", self.begun + text, re.DOTALL).groups("")
        for piece in re.findall(r"\033\[[?0-9;]*[A-Za-z]|\r|\n|[^\033\r\n]+", whole):
            self._take(piece)

    def _take(self, piece: str) -> None:
        if piece in ("\033[?1049h", "\033[?1049l"):
            self.alternate = piece.endswith("h")
        elif piece in ("\033[?25h", "\033[?25l"):
            self.has_cursor = piece.endswith("h")
        elif not self.alternate:
            pass
        elif piece == "\r":
            self.column = 0
        elif piece == "\n":
            if self.line == self.lines - 1:
                self._misfit("it scrolls")
            else:
                self.line += 1
        elif piece == "\033[H":
            self.line = self.column = 0
            self.fits = True
        elif piece in ("\033[2J", "\033[J"):
            first = 0 if piece == "\033[2J" else self.line + 1
            self.rows[first:] = [""] * len(self.rows[first:])
            self.is_stale &= not self.fits  # so ends each picture
        elif piece == "\033[K":
            self.rows[self.line] = self.rows[self.line][: self.column]
        elif not re.fullmatch(r"\033\[[0-9;]*m", piece):
            assert not piece.startswith("\033"), repr(piece)
            row = self.rows[self.line].ljust(self.column)
            self.rows[self.line] = row[: self.column] + piece + row[self.column + len(piece) :]
            self.column += len(piece)
            if self.column > self.columns:
                self._misfit(f"a line is too long: {piece!r}")

    def __str__(self) -> str:
        return "\n".join(self.rows)


class Terminal:
    """daggyctl on a terminal of its own."""

    def __init__(self, daemon: Runner | str, *arguments: str, lines: int = 24, columns: int = 100, **more: str):
        self.master, slave = pty.openpty()
        self.settings = termios.tcgetattr(slave)
        self.raw = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.screen = Screen(lines, columns)
        self._set_size()
        self.process = subprocess.Popen(
            ["daggyctl", *arguments],
            env=environment(daemon, **more),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._slave = slave

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)

    def _set_size(self) -> None:
        size = struct.pack("HHHH", self.screen.lines, self.screen.columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def resize(self, lines: int, columns: int) -> None:
        self.read()
        self.screen.resize(lines, columns)
        self._set_size()

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read(self) -> str:
        """Takes in what was written up to now."""
        while select.select([self.master], [], [], 0.02)[0]:
            piece = self.decoder.decode(os.read(self.master, 65536))
            self.raw += piece
            self.screen.feed(piece)
        return self.raw

    def await_text(self, text: str) -> str:
        """Until that is on the screen, or was written where there is none."""

        def is_there() -> bool:
            self.read()
            return text in (str(self.screen) if self.screen.alternate else self.raw)

        try:
            await_that(is_there, timeout=30, what=repr(text))
        except AssertionError as error:
            raise AssertionError(f"{error}, in:\n{self.screen}\n{self.raw[-500:]!r}") from None
        return str(self.screen)

    def is_restored(self) -> bool:
        self.read()
        now = termios.tcgetattr(self._slave)
        return not self.screen.alternate and self.screen.has_cursor and now == self.settings

    def end(self) -> int:
        """Its exit status, once it has ended by itself."""
        deadline = time.monotonic() + 60 * SLOWNESS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on: {self.screen}"
            self.read()
        self.read()
        return self.process.returncode

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
