# SPDX-License-Identifier: LGPL-2.1-or-later
"""Upgrade in place: another program takes daggyr's place in its process, and no task, client or byte is lost."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from bedlib import (
    ROOMY,
    Runner,
    ShellRunner,
    await_nothing_left,
    await_that,
    load,
    open_fds,
    processes_of,
    run,
    task_id,
    unit_property,
)


class Upgradable(Runner):
    """A runner with a program of its own, which may be replaced."""

    def __init__(self, config: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(ROOMY | (config or {}), **options)
        self.folder = Path("/usr/local/lib", self.name)
        self.program = self.folder / "daggyr"
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

    def install_patched(self, old: bytes, new: bytes) -> None:
        assert len(old) == len(new)
        content = Path("/usr/bin/daggyr").read_bytes()
        assert old in content
        file = self.folder / "new"
        file.write_bytes(content.replace(old, new))
        file.chmod(0o755)
        file.rename(self.program)

    def discard(self) -> None:
        super().discard()
        shutil.rmtree(self.folder)

    def upgrade(self) -> None:
        """Returns when the new program serves."""
        inode = self._running_inode()
        answer = self.post("/api/v1/upgrade")
        assert answer.status_code == 202, answer.text
        self.http.close()
        self.await_upgraded(inode)

    def await_upgraded(self, inode: tuple[int, float]) -> None:
        await_that(lambda: self._running_inode() != inode, what=f"{self.name} to be upgraded: {self.journal()}")
        await_that(lambda: self.get("/ready").status_code == 200, what="the new program to be ready")

    def _running_inode(self) -> Any:
        return self.n_upgrades()

    def n_upgrades(self) -> int:
        return self.journal().count("Upgraded in place")

    def _unit_text(self) -> str:
        return super()._unit_text().replace("/usr/bin/daggyr", str(self.program))


@pytest.fixture
def runner() -> Iterator[Upgradable]:
    with Upgradable() as runner:
        yield runner


def test_a_running_task_goes_on_in_the_same_process_and_keeps_its_output(runner: Upgradable) -> None:
    pid = runner.main_pid
    facts = runner.get("/api/v1/capacity").json()["facts"]
    id = runner.submit(["sh", "-c", "echo before; read line <$0; echo after; exit 3", fifo(runner)])
    await_that(lambda: b"before\n" == output(runner, id), what="the first line")
    processes = processes_of(id)
    runner.upgrade()
    assert runner.main_pid == pid
    assert processes_of(id) == processes
    assert runner.get("/api/v1/capacity").json()["facts"]["instance_id"] == facts["instance_id"]
    Path(fifo_path(runner)).write_text("go\n")
    attempt = runner.wait(id)
    assert attempt["state"] == "errored" and attempt["exit_code"] == 3, attempt
    assert output(runner, id) == b"before\nafter\n"
    await_nothing_left(id)


def fifo_path(runner: Upgradable) -> str:
    return str(runner.folder / "fifo")


def fifo(runner: Upgradable) -> str:
    """What a task can be made to wait for, and the test to let it go on by."""
    path = fifo_path(runner)
    os.mkfifo(path, 0o666)
    os.chmod(path, 0o666)
    return path


def output(runner: Runner, id: str) -> bytes:
    return runner.get(f"/api/v1/task/{id}/output").content
