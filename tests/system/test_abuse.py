# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients that mean harm: requests that others read differently, and more of everything than is good."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bedlib import ROOMY, SLOWNESS, Runner, await_that, open_fds, task_id

BODY = b'{"command": ["true"]}'
HIDDEN = (
    b"POST /api/v1/task/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
CHUNKED_BODY = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
BAD_CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n"


def post(fields: bytes, body: bytes = BODY, version: bytes = b"HTTP/1.1") -> bytes:
    return (
        b"POST /api/v1/task/abuse %s\r\nHost: localhost\r\nContent-Type: application/json\r\n" % version
        + fields
        + body
    )


def get(target: bytes, fields: bytes = b"Host: localhost\r\n", method: bytes = b"GET") -> bytes:
    return b"%s %s HTTP/1.1\r\n%s\r\n" % (method, target, fields)


LENGTH = b"Content-Length: %d\r\n" % len(BODY)

MALFORMED = {
    "length and chunked": post(LENGTH + b"Transfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"),
    "chunked and length": post(b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n", CHUNKED_BODY),
    "two lengths": post(LENGTH + b"Content-Length: 0\r\n\r\n"),
    "two lengths, other order": post(b"Content-Length: 0\r\n" + LENGTH + b"\r\n"),
    "the same length twice": post(LENGTH + LENGTH + b"\r\n"),
    "list of lengths": post(b"Content-Length: 21, 21\r\n\r\n"),
    "length with plus": post(b"Content-Length: +21\r\n\r\n"),
    "negative length": post(b"Content-Length: -21\r\n\r\n"),
    "hexadecimal length": post(b"Content-Length: 0x15\r\n\r\n"),
    "length with exponent": post(b"Content-Length: 2e1\r\n\r\n"),
    "empty length": post(b"Content-Length:\r\n\r\n"),
    "length of two numbers": post(b"Content-Length: 21 21\r\n\r\n"),
    "identity": post(b"Transfer-Encoding: identity\r\n\r\n"),
    "chunked, identity": post(b"Transfer-Encoding: chunked, identity\r\n\r\n", CHUNKED_BODY),
    "identity, chunked": post(b"Transfer-Encoding: identity, chunked\r\n\r\n", CHUNKED_BODY),
    "chunked twice": post(b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n", CHUNKED_BODY),
    "xchunked": post(b"Transfer-Encoding: xchunked\r\n\r\n", CHUNKED_BODY),
    "quoted chunked": post(b'Transfer-Encoding: "chunked"\r\n\r\n', CHUNKED_BODY),
    "chunked behind a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n\r\n", CHUNKED_BODY),
    "chunked on a line of its own": post(b"Transfer-Encoding:\r\n chunked\r\n\r\n", CHUNKED_BODY),
    "chunked in HTTP/1.0": post(b"Transfer-Encoding: chunked\r\n\r\n", CHUNKED_BODY, b"HTTP/1.0"),
    "blank before the colon": post(b"Content-Length : 21\r\n\r\n"),
    "tab before the colon": post(b"Transfer-Encoding\t: chunked\r\n\r\n", CHUNKED_BODY),
    "folded line": post(LENGTH + b"X: a\r\n b\r\n\r\n"),
    "folded line at the end": post(b"X: a\r\n" + LENGTH + b"\tb\r\n\r\n"),
    "folded length": post(b"Content-Length: 2\r\n 1\r\n\r\n"),
    "first line folded": b"POST /api/v1/task/abuse HTTP/1.1\r\n X: a\r\nHost: localhost\r\n" + LENGTH + b"\r\n" + BODY,
    "no colon": post(LENGTH + b"X\r\n\r\n"),
    "no name": post(LENGTH + b": x\r\n\r\n"),
    "parenthesis in a name": post(LENGTH + b"X(y): x\r\n\r\n"),
    "line feed behind the request line": post(LENGTH + b"\r\n").replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
    "line feed behind a header": post(b"X: y\n" + LENGTH + b"\r\n"),
    "line feed behind the last header": post(LENGTH.replace(b"\r", b"") + b"\r\n"),
    "line feed behind the header": post(LENGTH + b"\n"),
    "nothing but line feeds": post(LENGTH + b"\r\n").replace(b"\r", b""),
    "line feed hides a header": post(b"X: y\nTransfer-Encoding: chunked\r\n\r\n", CHUNKED_BODY),
    "return hides a header": post(LENGTH + b"X: y\rTransfer-Encoding: chunked\r\n\r\n", CHUNKED_BODY),
    "NUL in a value": post(LENGTH + b"X: a\0b\r\nY: z\r\n\r\n"),
    "NUL in the last value": post(LENGTH + b"X: a\0b\r\n\r\n"),
    "NUL behind the length": post(b"Content-Length: 21\0\r\n\r\n"),
    "NUL in a name": post(LENGTH + b"X\0Y: z\r\n\r\n"),
    "NUL in the target": get(b"/ready\0"),
    "control character in a value": post(LENGTH + b"X: a\x01b\r\n\r\n"),
    "no host": get(b"/ready", b""),
    "two hosts": get(b"/ready", b"Host: localhost\r\nHost: localhost\r\n"),
    "two tokens": get(b"/ready", b"Host: localhost\r\nAuthorization: a\r\nAuthorization: b\r\n"),
    "no version": b"GET /ready\r\nHost: localhost\r\n\r\n",
    "small letters in the version": b"GET /ready http/1.1\r\nHost: localhost\r\n\r\n",
    "two blanks before the target": b"GET  /ready HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two blanks behind the target": b"GET /ready  HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "blank in the target": b"GET /ready x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tab in the target": b"GET /ready\tx HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "blank behind the version": b"GET /ready HTTP/1.1 \r\nHost: localhost\r\n\r\n",
    "target of another host": get(b"http://other.example/ready"),
    "target of another port": get(b"http://localhost:1/ready"),
    "target of another scheme": get(b"ftp://localhost/ready"),
    "relative target": get(b"ready"),
    "target *": get(b"*"),
    "tunnel": get(b"localhost:22", b"Host: localhost:22\r\n", b"CONNECT"),
    "chunk of size -1": post(BAD_CHUNKS, b"-1\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk of size 0x15": post(BAD_CHUNKS, b"0x15\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk of size +15": post(BAD_CHUNKS, b"+15\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk without a size": post(BAD_CHUNKS, b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk longer than it says": post(BAD_CHUNKS, b"10\r\n" + BODY + b"\r\n0\r\n\r\n"),
}

OTHERWISE_REFUSED = {
    "HTTP/2.0": (b"GET /ready HTTP/2.0\r\nHost: localhost\r\n\r\n", {400, 505}),
    "HTTP/0.9": (b"GET /ready HTTP/0.9\r\nHost: localhost\r\n\r\n", {400, 505}),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    "chunk of 2^72 bytes": (post(BAD_CHUNKS, b"fffffffffffffffff\r\n" + BODY), {400, 413}),
    "length of 2^70": (post(b"Content-Length: 1180591620717411303424\r\n\r\n"), {400, 413}),
    "length of 2^64 - 1": (post(b"Content-Length: 18446744073709551615\r\n\r\n"), {413}),
    "expectation": (post(b"Expect: miracles\r\n" + LENGTH + b"\r\n"), {417}),
    "101 headers": (get(b"/ready", b"Host: localhost\r\n" + b"X: y\r\n" * 100), {431}),
    "10000 headers": (get(b"/ready", b"Host: localhost\r\n" + b"X: y\r\n" * 10000), {431}),
    "header of 100000 bytes": (get(b"/ready", b"Host: localhost\r\nX: " + b"y" * 100_000 + b"\r\n"), {431}),
    "token of 100000 bytes": (
        get(b"/ready", b"Host: localhost\r\nAuthorization: Bearer " + b"y" * 100_000 + b"\r\n"),
        {431},
    ),
    "target of 10000 bytes": (get(b"/" + b"x" * 10_000), {414}),
    "target of 100000 bytes": (get(b"/" + b"x" * 100_000), {414}),
    "method of 100000 bytes": (get(b"/ready", method=b"X" * 100_000), {400, 414, 431}),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Runner]:
    with Runner(ROOMY) as runner:
        yield runner


@pytest.fixture
def runner(shared: Runner) -> Iterator[Runner]:
    """A daggyr that has run nothing when the test is over, and is none the worse."""
    pid = shared.main_pid
    revision = shared.get("/api/v1/capacity").json()["revision"]
    yield shared
    assert shared.main_pid == pid
    assert shared.get("/api/v1/tasks").json()["tasks"] == []
    assert shared.get("/api/v1/capacity").json()["revision"] == revision


def connect(runner: Runner) -> socket.socket:
    return socket.create_connection(("127.0.0.1", runner.config["port"]), 30 * SLOWNESS)


def read_to_end(connection: socket.socket) -> bytes:
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
    except ConnectionResetError:  # it was still being sent to
        pass
    return answer


def exchange(runner: Runner, request: bytes) -> bytes:
    with connect(runner) as connection:
        try:
            connection.sendall(request)
        except (BrokenPipeError, ConnectionResetError):  # it had read enough
            pass
        return read_to_end(connection)


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


# libmicrohttpd 1.0 has no word for a NUL where there is no telling what was asked for, and hangs up.
WORDLESS = {"NUL in the target"}


def answered_once(answer: bytes) -> list[int]:
    """The statuses; libmicrohttpd 0.9.75 itself complains of a length it cannot read with two headers for
    one and the same body."""
    complaint = re.compile(rb"(HTTP/1.1 4[^\0]*?\r\n\r\n)\1<html>")
    return statuses(complaint.sub(rb"\1<html>", answer))


def is_refused(answer: bytes, name: str, before: list[int] | None = None) -> bool:
    wordless = [[]] if name in WORDLESS else []
    return answered_once(answer) in [(before or []) + last for last in [[400], *wordless]]


@pytest.mark.parametrize("name", MALFORMED)
def test_what_can_be_read_in_two_ways_is_not_read_at_all(runner: Runner, name: str) -> None:
    """Lost: the protection of whatever stands before the runner: requests would be smuggled past it."""
    assert is_refused(exchange(runner, MALFORMED[name] + HIDDEN), name)


@pytest.mark.parametrize("name", MALFORMED)
def test_it_is_not_read_when_nothing_follows_either(runner: Runner, name: str) -> None:
    """Lost: the same, to who sends the hidden request later."""
    with connect(runner) as connection:
        connection.sendall(MALFORMED[name])
        answer = connection.recv(65536)
        try:
            connection.sendall(HIDDEN)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert is_refused(answer + read_to_end(connection), name)


@pytest.mark.parametrize("name", MALFORMED)
def test_it_is_not_read_as_a_second_request_either(runner: Runner, name: str) -> None:
    """Lost: the same, on a connection that was used before."""
    answer = exchange(runner, get(b"/ready") + MALFORMED[name] + HIDDEN)
    assert is_refused(answer, name, before=[200])


@pytest.mark.parametrize("name", OTHERWISE_REFUSED)
def test_too_much_of_anything_is_refused(runner: Runner, name: str) -> None:
    """Lost: memory, to headers without end; or the reason why a request is refused."""
    request, allowed = OTHERWISE_REFUSED[name]
    seen = answered_once(exchange(runner, request))
    # A client that is still sending when the connection is closed may lose the answer.
    assert len(seen) == 1 and seen[0] in allowed or (not seen and len(request) > 65536)


@pytest.mark.parametrize("body", [CHUNKED_BODY, CHUNKED_BODY.replace(b"\r\n", b";x=y\r\n", 1), CHUNKED_BODY.replace(b"\r\n", b"\n")])
def test_nothing_is_read_behind_chunks(shared: Runner, body: bytes) -> None:
    """Lost: the same as above, for chunks can be written in many ways, and not all agree on which."""
    id = task_id("chunked")
    request = post(b"Transfer-Encoding: chunked\r\n\r\n", body).replace(b"task/abuse", b"task/" + id.encode())
    seen = statuses(exchange(shared, request + HIDDEN))
    assert seen in ([202], [400])
    if seen == [202]:
        assert shared.wait(id)["succeeded"]
        shared.delete(f"/api/v1/task/{id}")
    assert shared.get("/api/v1/task/smuggled").status_code == 404


def test_well_formed_rarities_are_served(runner: Runner) -> None:
    """Lost: clients that are merely old, terse or thorough."""
    port = runner.config["port"]
    for request in (
        b"GET /ready HTTP/1.0\r\n\r\n".replace(b"\r\n\r\n", b"\r\nHost: localhost\r\n\r\n"),
        get(b"http://localhost/ready", b"Host: localhost\r\nConnection: close\r\n"),
        get(b"HTTP://127.0.0.1:%d/ready" % port, b"Host: 127.0.0.1:%d\r\nConnection: close\r\n" % port),
        b"\r\n" + get(b"/ready", b"Host: localhost\r\nConnection: close\r\n"),
        get(b"/ready", b"Host:localhost\r\nConnection:close\r\nEmpty:\r\nBlank: \t \r\n"),
        get(b"/ready", b"hOST: \t localhost\r\nCONNECTION: close\r\nX: \xc3\xa4 \"a\tb\"\r\n"),
        get(b"/ready", b"Connection: close\r\n" + b"X: y\r\n" * 97 + b"Cookie: a=b; c=d\r\nHost: localhost\r\n"),
        get(b"/ready", b"Host: localhost\r\nConnection: close\r\nX: " + b"y" * 8000 + b"\r\n"),
    ):
        assert statuses(exchange(runner, request)) == [200], request[:200]


def test_pipelined_requests_are_answered_in_order(runner: Runner) -> None:
    """Lost: a client that does not wait, and with it the trust in which answer is whose."""
    requests = [b"/ready", b"/api/v1/task/none", b"/api/v1/lease", b"/api/v1/task/none?wait=1"] * 5
    last = get(b"/nowhere", b"Host: localhost\r\nConnection: close\r\n")
    answer = exchange(runner, b"".join(get(target) for target in requests) + last)
    assert statuses(answer) == [200, 404, 200, 404] * 5 + [404]


def test_unknown_methods_are_named_so(runner: Runner) -> None:
    """Lost: the hint at what a path does have."""
    for method in (b"FOO", b"PATCH", b"TRACE", b"OPTIONS", b"g\xc3\xa4t"):
        answer = exchange(runner, get(b"/ready", b"Host: localhost\r\nConnection: close\r\n", method))
        assert statuses(answer) in ([405], [400]), answer


def drip(connection: socket.socket, piece: bytes, seconds: float) -> tuple[float, bytes]:
    """Sends the piece every now and then until the server has enough; how long that took, and its answer."""
    start = time.monotonic()
    connection.settimeout(0.5)
    answer = b""
    while time.monotonic() - start < seconds:
        try:
            connection.sendall(piece)
            received = connection.recv(65536)
            if not received:
                break
            answer += received
        except TimeoutError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            break
    return time.monotonic() - start, answer


def test_dripping_does_not_hold_a_connection(runner: Runner) -> None:
    """Lost: the runner, to a handful of clients that send a byte a second, as no time-out would count."""
    beginnings = {
        "header": (b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX: ", b"y"),
        "headers": (b"GET /ready HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n"),
        "request line": (b"GET /", b"x"),
        "empty lines": (b"\r\n", b"\r\n"),
        "body": (post(b"Content-Length: 1000\r\n\r\n", b""), b" "),
        "chunks": (post(b"Transfer-Encoding: chunked\r\n\r\n", b""), b"1\r\n \r\n"),
        "chunk extension": (post(b"Transfer-Encoding: chunked\r\n\r\n", b"1;"), b"x"),
        "trailer": (post(b"Transfer-Encoding: chunked\r\n\r\n", b"0\r\n"), b"X: y\r\n"),
        "body of a refused request": (post(b"Origin: http://x\r\nContent-Length: 1000\r\n\r\n", b""), b" "),
    }

    def attack(name: str) -> tuple[str, float, bytes]:
        beginning, piece = beginnings[name]
        with connect(runner) as connection:
            connection.sendall(beginning)
            return (name, *drip(connection, piece, 20 * SLOWNESS))

    with ThreadPoolExecutor(len(beginnings)) as pool:
        for name, seconds, answer in pool.map(attack, beginnings):
            if name == "empty lines" and statuses(answer) != [408]:
                continue  # libmicrohttpd 1.0 has no patience with them
            assert 5 < seconds < 15 * SLOWNESS, name
            assert statuses(answer) == [408], name


@pytest.mark.plain
def test_a_slow_but_steady_body_is_taken(shared: Runner) -> None:
    """Lost: clients on a slow line, whose request takes longer than the time for a short one."""
    id = task_id("slow")
    body = BODY[:-1] + b" " * 150_000 + b"}"
    request = post(b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body), body)
    with connect(shared) as connection:
        request = request.replace(b"task/abuse", b"task/" + id.encode())
        for i in range(0, len(request), 6_000):
            connection.sendall(request[i : i + 6_000])
            time.sleep(0.5)
        assert statuses(read_to_end(connection)) == [202]
    assert shared.wait(id)["succeeded"]
    assert shared.delete(f"/api/v1/task/{id}").status_code == 204


def test_chunks_without_end_are_cut_off(runner: Runner) -> None:
    """Lost: memory and a connection, to a body that never ends."""
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    with connect(runner) as connection:
        connection.sendall(post(b"Transfer-Encoding: chunked\r\n\r\n", b""))
        try:
            while sent < 100_000_000:
                connection.sendall(chunk)
                sent += len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = read_to_end(connection)
    assert sent < 40_000_000
    assert statuses(answer) in ([413], [])  # what is still being sent may cost the client the answer


N_HALF_OPEN = 200
HALF = b"GET /ready HTTP/1.1\r\nHost: loc"


def open_half(runner: Runner, what: bytes) -> list[socket.socket]:
    connections = [connect(runner) for _ in range(N_HALF_OPEN)]
    for connection in connections:
        connection.sendall(what)
    return connections


@pytest.mark.serial
@pytest.mark.parametrize("what", [b"", HALF, post(b"Content-Length: 1000\r\n\r\n", b" ")])
def test_half_open_connections_slow_nobody_down(runner: Runner, what: bytes) -> None:
    """Lost: everybody's requests, to a port scan or a few hundred connections that say nothing."""
    half_open = open_half(runner, what)
    try:
        times = []
        for _ in range(20):
            start = time.monotonic()
            assert b" 200 " in exchange(runner, get(b"/ready", b"Host: localhost\r\nConnection: close\r\n"))
            times.append(time.monotonic() - start)
        print(f"slowest of 20: {max(times) * 1000:.1f} ms")
        assert sorted(times)[-2] < 0.1 * SLOWNESS  # the machine may have one hiccup of its own
    finally:
        for connection in half_open:
            connection.close()


@pytest.mark.serial
@pytest.mark.parametrize("what", [b"", HALF])
def test_with_few_descriptors_the_silent_make_room(
    start_runner: Callable[..., Runner], what: bytes
) -> None:
    """Lost: a runner with few descriptors, to any two hundred connections."""
    runner = start_runner(ROOMY, properties={"LimitNOFILE": "64"})
    half_open = open_half(runner, what)
    try:
        start = time.monotonic()
        assert b" 200 " in exchange(runner, get(b"/ready", b"Host: localhost\r\nConnection: close\r\n"))
        seconds = time.monotonic() - start
        print(f"served after {seconds:.2f} s")
        assert seconds < (8 if what else 0.5) * SLOWNESS
        if what:
            await_that(
                lambda: "said nothing while others waited" in runner.journal(), what="a word about it"
            )
    finally:
        for connection in half_open:
            connection.close()
    assert runner.run(["true"])["succeeded"]


@pytest.mark.serial
def test_one_address_does_not_get_all_connections(start_runner: Callable[..., Runner]) -> None:
    """Lost: all others, to one host that opens connections without end and uses each."""
    config = ROOMY | {"ip": "0.0.0.0", "insecure": True}
    runner = start_runner(config, properties={"LimitNOFILE": "256"})  # 64 connections
    address = ("192.0.2.1", runner.config["port"])  # this machine's own, but not loopback
    request = b"GET /api/v1/capacity HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"

    def use() -> tuple[socket.socket, bool]:
        connection = socket.create_connection(address, 30 * SLOWNESS)
        try:
            connection.sendall(request)
            return connection, connection.recv(65536).startswith(b"HTTP/1.1 200")
        except (BrokenPipeError, ConnectionResetError):
            return connection, False

    def descriptors() -> list[str]:
        return [target for target in open_fds(runner.main_pid).values() if target.startswith("socket:")]

    first, was_served = use()
    assert was_served
    with_one = descriptors()
    first.close()
    before = await_that(
        lambda: len(open_now := descriptors()) == len(with_one) - 1 and open_now, what="its end"
    )
    used = [use() for _ in range(60)]
    try:
        served = [was_served for _, was_served in used]
        assert served == [True] * 32 + [False] * 28
        assert len(descriptors()) == len(before) + 32
        assert runner.get("/ready").status_code == 200
        await_that(lambda: "192.0.2.1, which has more conn" in runner.journal(), what="a word about it")
    finally:
        for connection, _ in used:
            connection.close()
    runner.http.close()
    await_that(lambda: len(descriptors()) == len(before), what="the connections to be gone")
    again = use()
    again[0].close()
    assert again[1]


def test_refusals_are_logged_but_not_each(start_runner: Callable[..., Runner]) -> None:
    """Lost: the trace of an attack; or the disk, to a log of each of its requests."""
    runner = start_runner()
    secret = "s3cret-in-the-query-and-header"
    for _ in range(200):
        answer = runner.get(
            f"/ready?token={secret}", headers={"Origin": "http://evil.example", "Authorization": secret}
        )
        assert answer.status_code == 403
    for _ in range(100):
        exchange(runner, b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    await_that(lambda: "sent no request that could be read" in runner.journal(), what="both lines")
    journal = runner.journal()
    lines = [line for line in journal.splitlines() if "127.0.0.1" in line and "efused" in line]
    assert len(lines) == 1 and "Refused a request from 127.0.0.1: 403 " in lines[0]
    assert journal.count("sent no request that could be read") == 1
    assert secret not in journal


def test_who_only_knocks_is_not_worth_a_line(start_runner: Callable[..., Runner]) -> None:
    """Lost: a readable log, to every monitor that looks whether the port is open."""
    runner = start_runner()
    for _ in range(20):
        connect(runner).close()
    exchange(runner, b"\r\n\r\nnonsense\r\n\r\n")
    await_that(lambda: "Closed a connection" in runner.journal(), what="a word about the nonsense")
    assert "Closed 2" not in runner.journal()
    assert runner.get("/ready").status_code == 200
