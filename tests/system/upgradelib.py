# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests of upgrades in place stand on: a runner whose program is replaced, and clients that come again."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import requests

from bedlib import BROKEN_OFF, PYTHON, ROOMY, SLOWNESS, Runner, await_that, program_in, task_id


class Upgradable(Runner):
    """A runner with a program of its own, which may be replaced."""

    def __init__(self, config: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(ROOMY | (config or {}), **options)
        self.folder = Path("/usr/local/lib", self.name)
        self.program = self.folder / "daggyr"
        self.marks = self.folder / "marks"
        self.folder.mkdir()
        self.install(Path("/usr/bin/daggyr"))

    def install(self, program: Path) -> None:
        """As a package does it: the name leads to another file from one moment to the next."""
        shutil.copy(program, self.folder / "new")
        (self.folder / "new").rename(self.program)

    def install_text(self, text: str) -> None:
        new = self.folder / "new"
        new.write_text(text)
        new.chmod(0o755)
        new.rename(self.program)

    def install_with_state(self, old: bytes, new: bytes) -> None:
        """A program to which the state looks as if it had been written by one of another version, both when it is asked
        and when it goes on from there."""
        self.install_text(f"""#!{PYTHON}
import os, sys
asked = "--check-state" in sys.argv
state_fd = 0 if asked else int(os.environ["DAGGYR_STATE_FD"])
state = os.pread(state_fd, 1 << 24, 0)
assert {old!r} in state
file = os.memfd_create("state")
os.write(file, state.replace({old!r}, {new!r}, 1))
os.dup2(file, state_fd)
os.execv("/usr/bin/daggyr", sys.argv)
""")

    def discard(self) -> None:
        super().discard()
        shutil.rmtree(self.folder)

    def upgrade(self) -> None:
        before = program_in(self.main_pid)
        answer = self.post("/api/v1/upgrade")
        assert answer.status_code == 202, answer.text
        self.await_upgraded(before)

    def refuses(self, word: str) -> None:
        """Asks for an upgrade, which must be refused for this reason, and change nothing."""
        before = program_in(self.main_pid)
        answer = self.post("/api/v1/upgrade")
        assert answer.status_code == 409 and word in answer.json()["detail"], answer.text
        assert program_in(self.main_pid) == before
        assert f"No upgrade: {answer.json()['detail']}" in self.journal()

    def _unit_text(self) -> str:
        return super()._unit_text().replace("/usr/bin/daggyr", str(self.program))


def fifo_path(runner: Upgradable) -> Path:
    return runner.folder / "fifo"


def fifo(runner: Upgradable) -> str:
    """What a task can be made to wait for by "read line <…", until let_go()."""
    path = fifo_path(runner)
    os.mkfifo(path, 0o666)
    path.chmod(0o666)
    return str(path)


def let_go(runner: Upgradable) -> None:
    """Has the task go on that waits for the runner's fifo, or soon will."""

    def was_read() -> bool:
        try:
            writing = os.open(fifo_path(runner), os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO, error
            return False
        os.write(writing, b"go\n")
        os.close(writing)
        return True

    await_that(was_read, what="the task to read")


def output(runner: Runner, id: str) -> bytes:
    return runner.get(f"/api/v1/task/{id}/output").content


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Client(threading.Thread):
    """Does the same again and again beside a test, until that calls finish(), or until there is nothing more to do. A
    request whose connection is lost is made again; one that is refused, or any other mishap, fails the test."""

    PATIENCE = 300 * SLOWNESS

    def __init__(self, runner: Runner) -> None:
        super().__init__(daemon=True)  # nothing hangs when a test has failed
        self.runner = runner
        self.over = False
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        deadline = time.monotonic() + self.PATIENCE
        try:
            while self.step() and not self.over:
                assert time.monotonic() < deadline, f"{self} is held up"
        except BaseException as error:
            self.error = error

    def step(self) -> bool:
        """Whether there is more to do."""
        raise NotImplementedError

    def finish(self) -> None:
        self.over = True
        self.join(self.PATIENCE)
        assert not self.is_alive(), f"{self} is held up"
        if self.error:
            raise self.error

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        return insist(method, self.runner.url + path, **options)


def insist(method: str, url: str, **options: Any) -> requests.Response:
    """The answer to a request that is made again for as long as its connection is lost."""
    for _ in range(200):
        try:
            return requests.request(method, url, timeout=60 * SLOWNESS, **options)
        except BROKEN_OFF as error:
            assert "refused" not in str(error).lower(), error
            time.sleep(0.01)
    raise AssertionError(f"no answer: {method} {url}")


class Follower(Client):
    """Reads what a task writes to its end, from where it was, however often the stream ends."""

    def __init__(self, runner: Runner, id: str) -> None:
        self.id, self.read, self.n_ends = id, b"", 0
        super().__init__(runner)

    def step(self) -> bool:
        path = f"/api/v1/task/{self.id}/output?follow=true&offset={len(self.read)}"
        with self.ask("GET", path, stream=True) as answer:
            for piece in answer.iter_content(None):  # which raises if there is no last chunk
                self.read += piece
        self.n_ends += 1
        attempt = self.ask("GET", f"/api/v1/task/{self.id}?output=none").json()
        return attempt["state"] in ("queued", "running") or len(self.read) < attempt["output_bytes"]

    def finish(self) -> None:
        """Returns when the task has ended."""
        self.join(self.PATIENCE)
        super().finish()


class Events(Client):
    """The ids of all events there are, as a client gets them that comes again with the last one it has seen."""

    def __init__(self, runner: Runner) -> None:
        self.ids = [0]
        super().__init__(runner)

    def step(self) -> bool:
        with self.ask("GET", "/api/v1/events", headers={"Last-Event-ID": str(self.ids[-1])}, stream=True) as answer:
            for line in answer.iter_lines():
                if line.startswith(b"id: "):
                    self.ids.append(int(line[4:]))
                if self.over:
                    break
        return True


class Submitter(Client):
    """Submits short tasks one after the other, each of which leaves a mark."""

    def __init__(self, runner: Upgradable, lease_id: str, script: str = "", **fields: Any) -> None:
        self.marks, self.headers = runner.marks, {"Daggyr-Lease": lease_id}
        self.script, self.fields = f'echo started >>"$0"; {script} echo done', fields
        self.ids: list[str] = []
        super().__init__(runner)

    def step(self) -> bool:
        id = task_id("short")
        path = f"/api/v1/task/{id}"
        body = {"command": ["sh", "-c", self.script, str(self.marks / id)]} | self.fields
        answer = self.ask("POST", path, json=body, headers=self.headers)
        assert answer.status_code in (200, 202), answer.text
        self.ids.append(id)
        deadline = time.monotonic() + 60 * SLOWNESS
        while self.ask("GET", path + "?wait=30").json()["state"] in ("queued", "running"):
            assert time.monotonic() < deadline, f"{id} does not end"
        return True
