# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyctl join and leave, on the host of the installed runner: its socket, its credential, its name."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bedlib import SLOWNESS, Queue, await_that, open_folder, run

pytestmark = pytest.mark.serial  # there is one daggyr.socket

Starter = Callable[..., Any]

ADDRESS = "192.0.2.1"  # the bed's own, and not loopback
TOKEN = "q" * 40
CREDENTIAL = Path("/etc/credstore/daggyr.token")
DROP_IN = Path("/etc/systemd/system/daggyr.socket.d/50-daggyctl-join.conf")
JOINED = Path("/etc/daggyr/joined.json")


@pytest.fixture(name="token_file")
def _token_file() -> Path:
    path = Path(open_folder("/etc"), "queue-token")
    path.write_text(TOKEN + "\n")
    path.chmod(0o644)
    return path


@pytest.fixture(name="queue")
def _queue(start_queue: Starter, token_file: Path) -> Iterator[Queue]:
    config = {"ip": ADDRESS, "auth": {"token_file": str(token_file)}}
    queue = start_queue({}, config)
    queue.url = f"http://{ADDRESS}:{queue.config['port']}"
    queue.http.headers["Authorization"] = f"Bearer {TOKEN}"
    yield queue
    for path in (CREDENTIAL, DROP_IN, JOINED):
        path.unlink(missing_ok=True)
    run("systemctl", "daemon-reload")
    run("systemctl", "--quiet", "disable", "--now", "daggyr.socket", check=False)
    run("systemctl", "stop", "daggyr.service")


def ctl(*arguments: str, token_file: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        ["daggyctl", *arguments, f"--token-file={token_file}"], text=True, capture_output=True, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


def listens() -> str:
    return run("systemctl", "show", "--value", "-p", "Listen", "daggyr.socket")


def files() -> dict[Path, tuple[str, int]]:
    return {
        path: (path.read_text(), path.stat().st_mtime_ns)
        for path in (CREDENTIAL, DROP_IN, JOINED)
        if path.exists()
    }


def main_pid() -> str:
    return run("systemctl", "show", "--value", "-p", "MainPID", "daggyr.service")


def test_one_command_lets_a_queue_in_and_one_undoes_it(queue: Queue, token_file: Path) -> None:
    """Lost: an evening for each host, or a door that stays open."""
    before = listens()
    status, told, wrong = ctl("join", queue.url, token_file=token_file)
    assert (status, wrong) == (0, "")
    joined_at = time.monotonic()
    attempt = queue.run(["hostname"])
    assert attempt["state"] == "completed" and time.monotonic() - joined_at < 5 * SLOWNESS
    worker = queue.workers()[os.uname().nodename]
    assert (worker["source"], worker["url"]) == ("joined", f"http://{ADDRESS}:2504")
    for path in (CREDENTIAL, DROP_IN):
        assert str(path) in told
    assert CREDENTIAL.stat().st_mode & 0o777 == 0o600 and len(CREDENTIAL.read_text().strip()) == 64
    assert CREDENTIAL.read_text().strip() not in told + JOINED.read_text()
    assert queue.http.get(f"http://{ADDRESS}:2504/api/v1/tasks", headers={"Authorization": ""}).status_code == 401

    pid, made = main_pid(), files()
    id = queue.submit(["sh", "-c", "sleep 8; echo end"])
    await_that(lambda: queue.attempt(id)["state"] == "running")
    again = ctl("join", queue.url, token_file=token_file)
    assert again[0] == 0 and "Is with" in again[1] and "Made" not in again[1]
    assert main_pid() == pid
    assert {path: text for path, (text, _) in files().items()} == {path: text for path, (text, _) in made.items()}
    assert list(queue.workers()) == [os.uname().nodename]

    status, told, wrong = ctl("leave", token_file=token_file)  # while that task runs
    assert (status, wrong) == (0, ""), told
    assert "Waiting for 1 task" in told and "Left" in told
    attempt = queue.attempt(id)
    assert (attempt["state"], attempt["output"], attempt["attempts"]) == ("completed", "end\n", [])
    assert queue.workers() == {}
    assert listens() == before and files() == {}
    status, told, wrong = ctl("leave", token_file=token_file)
    assert (status, wrong) == (0, "") and "no queue" in told


def test_what_an_administrator_wrote_stays(queue: Queue, token_file: Path) -> None:
    """Lost: a token that other clients know."""
    CREDENTIAL.parent.mkdir(mode=0o700, exist_ok=True)
    CREDENTIAL.write_text("a" * 32 + "\n")
    own = DROP_IN.with_name("10-own.conf")
    own.parent.mkdir(exist_ok=True)
    own.write_text(f"[Socket]\nListenStream={ADDRESS}:2504\n")
    run("systemctl", "daemon-reload")
    try:
        status, told, wrong = ctl("join", queue.url, "--id", "named", token_file=token_file)
        assert (status, wrong) == (0, ""), told
        assert "Made" not in told and not DROP_IN.exists()
        assert queue.run(["true"])["worker"] == "named"
        assert ctl("leave", queue.url, token_file=token_file)[0] == 0
        assert CREDENTIAL.read_text() == "a" * 32 + "\n" and own.exists()
    finally:
        own.unlink()


def test_running_tasks_are_not_ended_by_joining(queue: Queue, token_file: Path) -> None:
    """Lost: whatever the host did until now."""
    run("systemctl", "start", "daggyr.socket")
    id = run("daggyctl", "submit", "--", "sleep", "60").strip()
    status, _, wrong = ctl("join", queue.url, token_file=token_file)
    assert status == 125 and "1 tasks" in wrong
    assert files() == {} and queue.workers() == {}
    run("daggyctl", "stop", "--wait", id)
    assert ctl("join", queue.url, token_file=token_file)[0] == 0
    assert ctl("leave", token_file=token_file)[0] == 0


def test_who_may_not_is_told_why(queue: Queue, token_file: Path) -> None:
    """Lost: a host half open, after a wrong token, address or name."""
    other = Path(open_folder(), "token")
    other.write_text("w" * 40)
    status, _, wrong = ctl("join", queue.url, token_file=other)
    assert status == 125 and "token" in wrong
    assert files() == {}
    assert ctl("join", f"http://{ADDRESS}:9", token_file=token_file)[0] == 123
    assert files() == {}
    queue.post("/api/v1/workers", json={"id": os.uname().nodename, "url": f"http://{ADDRESS}:1"})
    status, _, wrong = ctl("join", queue.url, token_file=token_file)
    assert status == 125 and "--id" in wrong
    assert files() == {}
    nobody = ["setpriv", "--reuid=nobody", "--clear-groups", "daggyctl", "join", queue.url]
    done = subprocess.run(nobody, text=True, capture_output=True, timeout=60)
    assert done.returncode == 125 and "root" in done.stderr


def test_a_queue_of_this_host_needs_no_open_door(start_queue: Starter, queue: Queue, token_file: Path) -> None:
    """Lost: the runner, to the network, for a queue beside it."""
    local = start_queue({})
    status, told, wrong = ctl("join", local.url, token_file=token_file)
    assert (status, wrong) == (0, ""), told
    assert not CREDENTIAL.exists() and not DROP_IN.exists()
    assert local.run(["true"])["state"] == "completed"
    listed = run("daggyctl", "-H", local.url, "workers")
    assert "joined" in listed and "http://127.0.0.1:2504" in listed
    assert ctl("leave", token_file=token_file)[0] == 0
    assert files() == {}
