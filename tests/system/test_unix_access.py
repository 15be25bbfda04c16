# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may do what at the Unix socket: root, the group, and whom polkit lets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import openapi
from bedlib import PYTHON, ROOMY, SLOWNESS, await_that, open_fds, run, settled_fds, task_id, unit_property
from openapi import Operation
from peerlib import NOBODY, ROOT, Peer, UnixRunner, polkit_rule

JSON = {"Content-Type": "application/json"}
GOOD = {"command": ["true"]}

LEVELS = {
    "read": ("GET", "/api/v1/tasks", None, 200),
    "submit": ("POST", "/api/v1/task/{id}", GOOD, 202),
    "manage": ("PUT", "/api/v1/drain", {"drain": False}, 200),
}
"""One request for each of polkit's actions, and what it is answered with when it is let in."""

TRUSTED = {
    "root": ROOT,
    "the daemon's own account": ("daggyr", "nogroup", ""),
    "primary group": ("nobody", "daggyr", ""),
    "supplementary group": ("nobody", "nogroup", "daggyr"),
    "one of several groups": ("nobody", "nogroup", "games,daggyr,users"),
}


def grant(*actions: str, user: str = "nobody") -> str:
    """A rule that lets one account do some things."""
    conditions = " || ".join(f'action.id == "io.daggyr.{action}"' for action in actions)
    return (
        "polkit.addRule(function (action, subject) {\n"
        f'    if (subject.user == "{user}" && ({conditions})) return polkit.Result.YES;\n'
        "});\n"
    )


@pytest.fixture(scope="module")
def shared() -> Iterator[UnixRunner]:
    """One whose administrator has let everybody connect, and has polkit decide."""
    with UnixRunner(ROOMY, mode="0666") as runner:
        yield runner


def ask(peer: Peer, level: str) -> int:
    method, path, body, _ = LEVELS[level]
    answer = peer.request(method, path.format(id=task_id("peer")), json=body)
    if answer.status_code in (403, 503):
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    return answer.status_code


def granted(peer: Peer) -> list[str]:
    """The levels at which a peer is let in; others must be refused as the default policy has it."""
    statuses = {level: ask(peer, level) for level in LEVELS}
    for level, status in statuses.items():
        assert status in (LEVELS[level][3], 403), f"{level}: {status}"
    return [level for level, status in statuses.items() if status != 403]


def task_ids(runner: UnixRunner) -> set[str]:
    return {task["task_id"] for task in runner.get("/api/v1/tasks?limit=1000").json()["tasks"]}


@pytest.mark.parametrize("who", TRUSTED)
def test_the_trusted_may_do_everything(shared: UnixRunner, who: str) -> None:
    """Lost: the way in for those who administer the host, and for those they have put into the group."""
    with shared.peer(TRUSTED[who]) as peer:
        assert granted(peer) == list(LEVELS)


@pytest.mark.parametrize("account", [NOBODY, ("nobody", "root", ""), ("daggyr-task", "daggyr-task", "users")])
def test_strangers_may_do_nothing(shared: UnixRunner, account: tuple[str, str, str]) -> None:
    """Lost: the host, to whoever has an account on it, a task for one."""
    before = task_ids(shared)
    with shared.peer(account) as peer:
        assert granted(peer) == []
        assert peer.get("/ready").status_code == 200
        assert "does not grant io.daggyr.read" in peer.get("/api/v1/tasks").json()["detail"]
    assert task_ids(shared) == before


def test_the_socket_itself_keeps_strangers_out_by_default() -> None:
    """Lost: the first of two doors; by default polkit need not be asked at all."""
    with UnixRunner(ROOMY) as runner:
        with runner.peer(NOBODY) as peer, pytest.raises(OSError, match="PermissionError"):
            peer.get("/ready")
        with runner.peer(("nobody", "nogroup", "daggyr")) as peer:
            assert granted(peer) == list(LEVELS)


def test_a_refusal_of_the_agent_interface_has_its_form(shared: UnixRunner) -> None:
    """Lost: the reason, to a DaggyR server, which knows no other form of errors."""
    body = {"executor": {"local": {"command": ["true"], "environment": {}}}, "task": {"job": {}}}
    with shared.peer(NOBODY) as peer:
        answer = peer.post("/api/v1/1/first", json=body)
        assert answer.status_code == 403
        assert "io.daggyr.submit" in answer.json()["error"]


@pytest.mark.serial
@pytest.mark.parametrize(
    ("given", "has"),
    [("read", ["read"]), ("submit", ["read", "submit"]), ("manage", ["read", "submit", "manage"])],
)
def test_a_rule_grants_what_it_says_and_no_more(shared: UnixRunner, given: str, has: list[str]) -> None:
    """Lost: the administrator's word on who may watch and who may act."""
    with shared.peer(NOBODY) as peer, shared.peer(("games", "games", "")) as other:
        with polkit_rule(grant(given)):
            await_that(lambda: ask(peer, "read") == 200, what="the rule to be read")
            assert granted(peer) == has
            assert granted(other) == []
        # Nothing is remembered: what is taken back is gone, on an open connection as well.
        await_that(lambda: ask(peer, "read") == 403, what="the rule to be gone")
        assert granted(peer) == []


@pytest.mark.serial
def test_nobody_is_prompted(shared: UnixRunner) -> None:
    """Lost: an answer in time, to a dialog somewhere that nobody has asked for."""
    with polkit_rule(grant("read").replace("YES", "AUTH_SELF")), shared.peer(NOBODY) as peer:

        def detail() -> str:
            answer = peer.get("/api/v1/tasks")
            assert answer.status_code == 403
            return str(answer.json()["detail"])

        await_that(lambda: "only after an authentication" in detail(), what="the rule to be read")
        assert peer.seconds < 2 * SLOWNESS


@pytest.mark.serial
def test_what_a_peer_may_see_includes_waiting(shared: UnixRunner) -> None:
    """Lost: long polls and streams, for those whom polkit had to be asked about."""
    id = shared.submit(["sleep", "infinity"])
    with polkit_rule(grant("read")), shared.peer(NOBODY) as peer:
        await_that(lambda: ask(peer, "read") == 200, what="the rule to be read")
        peer.send("GET", f"/api/v1/task/{id}?wait=60")
        shared.delete(f"/api/v1/task/{id}")
        assert peer.receive().json()["result"] == "stopped"


@contextmanager
def masked_polkit() -> Iterator[None]:
    run("systemctl", "mask", "--runtime", "--now", "polkit.service", stderr=-1)
    try:
        yield
    finally:
        run("systemctl", "unmask", "--runtime", "polkit.service", stderr=-1)
        run("systemctl", "start", "polkit.service")


@contextmanager
def frozen_polkit() -> Iterator[None]:
    run("systemctl", "start", "polkit.service")
    pid = int(unit_property("polkit.service", "MainPID"))
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


OUTAGES = {"masked": masked_polkit, "frozen": frozen_polkit}


@pytest.mark.serial
@pytest.mark.parametrize("outage", OUTAGES)
def test_without_polkit_strangers_wait_a_little_and_others_not_at_all(outage: str) -> None:
    """Lost: the daemon, whenever polkit is gone or hangs; or the lock, if silence were taken for a yes."""
    with (
        UnixRunner(ROOMY, mode="0666") as runner,
        runner.peer(NOBODY) as peer,
        runner.peer(NOBODY) as other,
        runner.peer() as root,
    ):
        running = runner.submit(["sh", "-c", "sleep 1; echo done"])
        # Its scope takes polkit's leave.
        await_that(lambda: runner.attempt(running)["start_time"], what="the start")
        with OUTAGES[outage]():
            for level in LEVELS:
                assert ask(peer, level) == 503
                assert 5 <= peer.seconds < 7 * SLOWNESS if outage == "frozen" else peer.seconds < 7 * SLOWNESS
            answer = peer.get("/api/v1/tasks")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(ask, peer, "read")
                assert root.get("/api/v1/tasks").status_code == 200
                assert root.seconds < 1 * SLOWNESS
                assert other.get("/ready").status_code == 200
                assert runner.get("/api/v1/lease").status_code == 200
                assert waiting.result() == 503
            assert runner.wait(running)["output"] == "done\n"
        await_that(lambda: ask(peer, "read") == 403, what="polkit to be asked again")
        assert runner.journal().count("Cannot ask polkit") == 1
        assert runner.journal().count("polkit answers again") == 1
        assert len(runner.get("/api/v1/tasks").json()["tasks"]) == 1


def url_of(operation: Operation) -> str:
    path = operation.path
    for name, value in (("run_id", "1"), ("task_id", task_id()), ("lease_id", "0" * 32)):
        path = path.replace(f"{{{name}}}", value)
    return path


@pytest.mark.serial
def test_each_operation_asks_polkit(shared: UnixRunner) -> None:
    """Lost: one route that was forgotten would let everybody in."""
    guarded = [operation for operation in openapi.OPERATIONS if operation.needs_token]
    body = {"json": {}}
    with shared.peer(NOBODY) as peer:
        for operation in guarded:
            answer = peer.request(operation.method, url_of(operation), **body if operation.has_body else {})
            assert answer.status_code == 403, operation.name
        with masked_polkit():
            for operation in guarded:
                answer = peer.request(operation.method, url_of(operation), **body if operation.has_body else {})
                assert answer.status_code == 503, operation.name
                assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.serial
def test_a_client_that_leaves_before_polkit_has_answered_is_forgotten() -> None:
    """Lost: the daemon, to whoever hangs up at the wrong moment; or descriptors, one for each of them."""
    with UnixRunner(ROOMY, mode="0666") as runner:
        before = len(settled_fds(runner.main_pid))
        with frozen_polkit():
            peers = [runner.peer(NOBODY) for _ in range(5)]
            for peer in peers:
                peer.send("GET", "/api/v1/tasks")
            await_that(lambda: len(open_fds(runner.main_pid)) >= before + 5, what="all of them")
            for peer in peers:
                peer.__exit__()
            await_that(lambda: len(open_fds(runner.main_pid)) <= before + 2, what="their descriptors to be closed")
            # A daemon that ends meanwhile has no answer to wait for.
            with runner.peer(NOBODY) as last:
                last.send("GET", "/api/v1/tasks")
                await_that(lambda: len(open_fds(runner.main_pid)) >= before + 2, what="the last one")
                runner.stop()


@pytest.mark.serial
def test_one_user_does_not_take_all_of_polkit() -> None:
    """Lost: everybody else's answers, to one user with many requests."""
    with UnixRunner(ROOMY, mode="0666") as runner:
        peers = [runner.peer(NOBODY) for _ in range(17)]
        for peer in peers:
            assert peer.get("/ready").status_code == 200
        with frozen_polkit():
            for peer in peers:
                peer.send("GET", "/api/v1/tasks")
            assert {peer.receive().status_code for peer in peers} == {503}
            assert sorted(peer.seconds >= 5 for peer in peers) == [False] + [True] * 16
        for peer in peers:
            await_that(lambda: peer.get("/api/v1/tasks").status_code == 403, what="polkit's no")
            peer.__exit__()


def test_who_has_connected_must_still_be_there(shared: UnixRunner) -> None:
    """Lost: the certainty whom polkit decides on: a pid may be another's by now."""
    ours, theirs = socket.socketpair()
    script = (
        "import array, socket, sys\n"
        "connection = socket.socket(socket.AF_UNIX)\n"
        "connection.connect(sys.argv[1])\n"
        "fds = array.array('i', [connection.fileno()])\n"
        "to = socket.socket(fileno=int(sys.argv[2]))\n"
        "to.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])\n"
    )
    run(
        "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
        PYTHON, "-c", script, str(shared.path), str(theirs.fileno()), pass_fds=[theirs.fileno()],
    )  # fmt: skip
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    with socket.socket(fileno=fds[0]) as connection:
        connection.sendall(b"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 403 ") and b"has ended" in answer
    for end in (ours, theirs):
        end.close()


def test_a_set_uid_program_is_who_it_was_when_it_connected(shared: UnixRunner) -> None:
    """Lost: everything, to a client that connects and then becomes root by "su", say."""
    script = (
        "import os, socket, sys\n"
        "connection = socket.socket(socket.AF_UNIX)\n"
        "connection.connect(sys.argv[1])\n"
        "os.setresuid(0, 0, 0)\n"
        "connection.sendall(b'GET /api/v1/tasks HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')\n"
        "print(connection.makefile('rb').read().decode())\n"
    )
    # Effective user nobody, saved user root: as for a set-uid program that has dropped its rights for now.
    answer = run(
        PYTHON, "-c", f"import os\nos.setresgid(65534, 65534, 65534)\nos.setgroups([])\nos.setresuid(65534, 65534, 0)\n{script}",
        str(shared.path),
    )  # fmt: skip
    assert answer.startswith("HTTP/1.1 403 ") and "another user's" in answer


@pytest.fixture
def of_a_user(tmp_path: Path) -> Iterator[Path]:
    """The Unix socket of a daggyr that the account "games" has started for itself. It needs no service manager
    to say who may come."""
    path = Path(f"/run/daggyr-of-a-user-{os.getpid()}.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        daemon = subprocess.Popen(
            ["setpriv", "--reuid=games", "--regid=games", "--clear-groups", "env", "-i", "LISTEN_FDS=1"]
            + ["bash", "-c", 'exec 3<&"$0"; export LISTEN_PID=$$; exec /usr/bin/daggyr --user', str(listener.fileno())],
            pass_fds=[listener.fileno()],
        )
    yield path
    daemon.kill()
    daemon.wait()
    path.unlink()


@pytest.mark.serial
def test_a_users_own_daggyr_is_his_alone(of_a_user: Path) -> None:
    """Lost: a user's account, to those whom the administrator lets use the host's daggyr."""
    with polkit_rule(grant("manage")):
        for account in (("games", "games", ""), ("games", "nogroup", ""), ROOT):
            with Peer(of_a_user, account) as peer:
                assert ask(peer, "read") == 200
        for account in (NOBODY, ("nobody", "daggyr", "daggyr"), ("daggyr", "daggyr", ""), ("nobody", "games", "")):
            with Peer(of_a_user, account) as peer:
                assert granted(peer) == []
                assert "another user's" in peer.get("/api/v1/tasks").json()["detail"]
