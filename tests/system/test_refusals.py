# SPDX-License-Identifier: LGPL-2.1-or-later
"""All that must be refused, by every way in: web pages, strangers, requests that can be read in two ways and
too much of anything. Each is refused as documented, and nothing of it is carried out."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedlib import ROOMY, SLOWNESS, await_that, open_folder, task_id
from peerlib import NOBODY, UnixRunner
from test_abuse import MALFORMED, OTHERWISE_REFUSED, WORDLESS, answered_once

TOKEN = "correct-horse-battery-staple"
AUTHORIZATION = f"Authorization: Bearer {TOKEN}\r\n"
KEPT = "kept"

BODIES = {"POST": {"command": ["true"]}, "PUT": {"drain": True}}
PATHS = {"POST": "/api/v1/task/refused", "PUT": "/api/v1/drain", "DELETE": f"/api/v1/task/{KEPT}"}
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]


def request(
    method: str,
    fields: str = "",
    host: str = "localhost",
    media_type: str = "application/json",
    authorization: str = AUTHORIZATION,
) -> bytes:
    """What would start a task, drain the runner or forget a task, were it not refused."""
    body = json.dumps(BODIES[method]) if method in BODIES else ""
    head = f"{method} {PATHS.get(method, '/api/v1/tasks')} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    if body:
        head += f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{authorization}{fields}\r\n{body}".encode()


def with_token(raw: bytes) -> bytes:
    """The same request from somebody who may make it: the token is not to be what it is refused for."""
    host = b"Host: localhost\r\n"
    return raw if b"Authorization" in raw else raw.replace(host, host + AUTHORIZATION.encode(), 1)


EVERYWHERE: dict[str, tuple[bytes, set[int]]] = {}
"""Requests that are refused by whatever socket they come, from clients that may do everything."""

for _method in METHODS:
    EVERYWHERE |= {
        f"{_method}, foreign origin": (request(_method, "Origin: http://evil.example\r\n"), {403}),
        f"{_method}, origin null": (request(_method, "Origin: null\r\n"), {403}),
        f"{_method}, origin by TLS": (request(_method, "Origin: https://localhost\r\n"), {403}),
        f"{_method}, cross-site": (request(_method, "Sec-Fetch-Site: cross-site\r\n"), {403}),
        f"{_method}, same-site": (request(_method, "Sec-Fetch-Site: same-site\r\n"), {403}),
        f"{_method}, 100000 bytes of header": (request(_method, f"X: {'y' * 100_000}\r\n"), {431}),
    }
for _method in BODIES:
    for _type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"):
        EVERYWHERE[f"{_method}, {_type}"] = (request(_method, media_type=_type), {415})
EVERYWHERE |= {name: (with_token(raw), {400}) for name, raw in MALFORMED.items()}
EVERYWHERE |= {name: (with_token(raw), allowed) for name, (raw, allowed) in OTHERWISE_REFUSED.items()}

OVER_TCP: dict[str, tuple[bytes, set[int]]] = {}
"""Those that are about an address or a token, which a Unix socket does not have."""

for _method in METHODS:
    OVER_TCP |= {
        f"{_method}, rebinding": (request(_method, host="evil.example", authorization=""), {421}),
        f"{_method}, rebinding by a part": (request(_method, host="localhost.evil.example", authorization=""), {421}),
        f"{_method}, no token": (request(_method, authorization=""), {401}),
        f"{_method}, wrong token": (request(_method, authorization=f"Authorization: Bearer {TOKEN}x\r\n"), {401}),
        f"{_method}, part of the token": (request(_method, authorization=AUTHORIZATION[:-3] + "\r\n"), {401}),
        f"{_method}, empty token": (request(_method, authorization="Authorization: Bearer \r\n"), {401}),
        f"{_method}, long token": (request(_method, authorization=f"Authorization: Bearer {TOKEN * 300}\r\n"), {401}),
        f"{_method}, overlong token": (
            request(_method, authorization=f"Authorization: Bearer {TOKEN * 4000}\r\n"),
            {431},
        ),
    }


@pytest.fixture(scope="module")
def shared() -> Iterator[UnixRunner]:
    token = Path(open_folder("/etc"), "token")
    token.write_text(TOKEN)
    token.chmod(0o644)
    runner = UnixRunner(ROOMY | {"auth": {"token_file": str(token)}}, mode="0666")
    runner.http.headers["Authorization"] = f"Bearer {TOKEN}"
    with runner:
        runner.wait(runner.submit(["true"], id=KEPT))
        yield runner


@pytest.fixture
def runner(shared: UnixRunner) -> Iterator[UnixRunner]:
    """A daggyr that has carried out nothing when the test is over, and is none the worse."""
    pid = shared.main_pid
    revision = shared.get("/api/v1/capacity").json()["revision"]
    yield shared
    assert shared.main_pid == pid
    assert [task["task_id"] for task in shared.get("/api/v1/tasks").json()["tasks"]] == [KEPT]
    capacity = shared.get("/api/v1/capacity").json()
    assert (capacity["revision"], capacity["draining"]) == (revision, False)
    assert shared.get("/ready").status_code == 200


def connect(runner: UnixRunner, way: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX if way == "unix" else socket.AF_INET)
    connection.settimeout(30 * SLOWNESS)
    connection.connect(str(runner.path) if way == "unix" else ("127.0.0.1", runner.config["port"]))
    return connection


def exchange(runner: UnixRunner, way: str, raw: bytes) -> bytes:
    answer = b""
    with connect(runner, way) as connection:
        try:
            connection.sendall(raw)
            while piece := connection.recv(65536):
                answer += piece
        except (BrokenPipeError, ConnectionResetError):  # it had read enough
            pass
    return answer


def check_refused(answer: bytes, raw: bytes, allowed: set[int], wordless: bool = False) -> None:
    seen = answered_once(answer)
    # A client that is still sending when the connection is closed may lose the answer.
    wordless |= len(raw) > 65536
    assert len(seen) == 1 and seen[0] in allowed or (not seen and wordless), answer[:200]
    assert TOKEN.encode() not in answer
    assert not re.search(rb"(?i)^access-control-", answer, re.MULTILINE)
    if seen == [401]:
        assert b"\r\nWWW-Authenticate: Bearer" in answer


def test_what_is_not_refused_is_carried_out() -> None:
    """Lost: the meaning of all the tests below, if their requests would come to nothing anyhow."""
    with UnixRunner(ROOMY, mode="0666") as runner:
        for way in ("tcp", "unix"):
            runner.wait(runner.submit(["true"], id=KEPT))
            for method, status in {"GET": 200, "HEAD": 200, "POST": 202, "DELETE": 204, "PUT": 200}.items():
                assert answered_once(exchange(runner, way, request(method))) == [status], method
            runner.put("/api/v1/drain", json={"drain": False})
            runner.wait("refused")
            assert runner.delete("/api/v1/task/refused").status_code == 204


@pytest.mark.parametrize("way", ["tcp", "unix"])
@pytest.mark.parametrize("name", EVERYWHERE)
def test_refused_by_every_way_in(runner: UnixRunner, name: str, way: str) -> None:
    """Lost: the host, to a web page, or to who hides one request in another."""
    raw, allowed = EVERYWHERE[name]
    check_refused(exchange(runner, way, raw), raw, allowed, name in WORDLESS)


@pytest.mark.parametrize("name", OVER_TCP)
def test_refused_over_tcp(runner: UnixRunner, name: str) -> None:
    """Lost: the host, to a rebound name, or to whoever can reach the port."""
    raw, allowed = OVER_TCP[name]
    check_refused(exchange(runner, "tcp", raw), raw, allowed)


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_a_body_without_end_is_refused(runner: UnixRunner, way: str) -> None:
    """Lost: memory and a connection, to chunks that never end."""
    raw = request("POST").partition(b"Content-Length")[0] + AUTHORIZATION.encode()
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    with connect(runner, way) as connection:
        try:
            connection.sendall(raw + b"Transfer-Encoding: chunked\r\n\r\n")
            while sent < 100_000_000:
                connection.sendall(chunk)
                sent += len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 40_000_000
        try:
            assert answered_once(connection.recv(65536)) in ([413], [])
        except ConnectionResetError:
            pass


@pytest.mark.parametrize("method", METHODS)
def test_strangers_are_refused_whatever_they_show(runner: UnixRunner, method: str) -> None:
    """Lost: the line between the two ways in: a token is for TCP, a Unix socket knows who comes."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with runner.peer(NOBODY) as peer:
        body = {"json": BODIES[method]} if method in BODIES else {}
        answer = peer.request(method, PATHS.get(method, "/api/v1/tasks"), headers=headers, **body)
        assert answer.status_code == 403


def test_the_log_tells_who_was_refused_what_once_and_no_secrets(runner: UnixRunner) -> None:
    """Lost: the trace of an attack; the disk, to one line for each request of it; or the token, to who may
    read the log."""
    path = f"/api/v1/task/{task_id('logged')}"
    with runner.peer(("games", "games", "")) as peer:
        for _ in range(50):
            assert peer.get(f"{path}?wait=secret-in-the-query").status_code == 403

    def lines() -> list[str]:
        return [line for line in runner.journal().splitlines() if "Refused a request from uid 5:" in line]

    await_that(lines, what="a word about it")
    assert len(lines()) == 1
    assert ": 403 polkit does not grant io.daggyr.read to this account" in lines()[0]
    assert lines()[0].endswith(f"(GET {path})")
    wrong = f"{TOKEN[:-1]}s"
    for secret in (wrong, "secret"):
        assert runner.get(f"{path}?{secret}", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
    assert runner.get(f"{path}?{secret}=1").status_code == 400
    exchange(runner, "tcp", "GET /a%0Ab\x1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    journal = runner.journal()
    assert "secret" not in journal and TOKEN not in journal and wrong not in journal
    assert "\x1b" not in journal


WITHOUT_TOKEN = {
    "nothing": {},
    "certificates, which take a restart": {"tls": {"cert": "/no", "key": "/no", "client_ca": "/no"}},
}


@pytest.mark.parametrize("instead", WITHOUT_TOKEN)
def test_no_reload_opens_the_door_to_all_the_world(instead: str) -> None:
    """Lost: the host, to everybody who can reach the port, by one line taken out of a file."""
    token = Path(open_folder("/etc"), "token")
    token.write_text(TOKEN)
    token.chmod(0o644)
    with UnixRunner(ROOMY | {"auth": {"token_file": str(token)}}, ip="0.0.0.0") as runner:
        del runner.config["auth"]
        runner.reload("would be open to all", json.dumps(runner.config | WITHOUT_TOKEN[instead]))
        assert runner.get("/api/v1/lease").status_code == 401
        runner.reconfigure(insecure=True)
        assert runner.get("/api/v1/lease").status_code == 200
