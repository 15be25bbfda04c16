# SPDX-License-Identifier: LGPL-2.1-or-later
"""HTTPS: who is served by it, with which certificates, and that everything else goes on as over HTTP."""

from __future__ import annotations

import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from bedlib import ROOMY, SLOWNESS, Runner, await_that, cpu_seconds, open_fds, open_folder, run, task_id
from probelib import seconds_for

REQUEST = b"GET /api/v1/lease HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
TOKEN = "correct-horse-battery-staple"


THIS_MACHINE = "IP:127.0.0.1,IP:192.0.2.1,DNS:localhost"


class Authority:
    """A certificate authority, and the certificates it gives."""

    def __init__(self, name: str) -> None:
        self.folder = open_folder("/etc")
        self.name = name
        self.cert = self.folder / "ca.crt"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-subj", f"/CN={name}", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt",
        )  # fmt: skip

    def give(
        self, name: str, purpose: str = "serverAuth", days: int = 1, subjects: str = THIS_MACHINE
    ) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1 and the other names of this machine, or for others, and its key."""
        cert, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(  # as Python 3.13 wants them, which is strict
            f"extendedKeyUsage={purpose}\nsubjectAltName={subjects}\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", key.name, "-out", "request",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", str(days), "-extfile", extensions.name, "-out", cert.name,
        )  # fmt: skip
        shutil.chown(key, "daggyr")
        key.chmod(0o600)
        return cert, key

    def _openssl(self, *arguments: str) -> None:
        run("openssl", *arguments, cwd=self.folder, stderr=-1)


@pytest.fixture(scope="module")
def ours() -> Authority:
    return Authority("ours")


@pytest.fixture(scope="module")
def foreign() -> Authority:
    return Authority("foreign")


@pytest.fixture(scope="module")
def server_pair(ours: Authority) -> tuple[Path, Path]:
    return ours.give("server")


def tls_config(pair: tuple[Path, Path], client_ca: Path | None = None) -> dict[str, Any]:
    tls = {"cert": str(pair[0]), "key": str(pair[1])}
    return ROOMY | {"tls": tls | ({"client_ca": str(client_ca)} if client_ca else {})}


def speak_https(runner: Runner, authority: Authority, client: tuple[Path, Path] | None = None) -> Runner:
    """Has the runner's own methods use HTTPS."""
    runner.url = runner.url.replace("http:", "https:")
    runner.http.close()
    runner.http = requests.Session()
    runner.http.trust_env = False
    runner.http.verify = str(authority.cert)
    runner.http.cert = (str(client[0]), str(client[1])) if client else None
    return runner


@pytest.fixture(scope="module")
def shared(ours: Authority, server_pair: tuple[Path, Path]) -> Iterator[Runner]:
    with Runner(tls_config(server_pair)) as runner:
        yield speak_https(runner, ours)


@pytest.fixture(scope="module")
def mutual(ours: Authority, server_pair: tuple[Path, Path]) -> Iterator[Runner]:
    """One that asks its clients for certificates; listening to all the world for that reason."""
    with Runner(tls_config(server_pair, ours.cert) | {"ip": "0.0.0.0"}) as runner:
        yield runner


def context_for(authority: Authority, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.cert))
    if client:
        context.load_cert_chain(client[0], client[1])
    return context


def connect(runner: Runner) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", runner.config["port"]), 30 * SLOWNESS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def n_sockets(runner: Runner) -> int:
    """Connections, and what each server inside needs."""
    return sum(
        target.startswith(("socket:", "anon_inode:[event")) for target in open_fds(runner.main_pid).values()
    )


def exchange(runner: Runner, context: ssl.SSLContext, request: bytes = REQUEST) -> bytes:
    """Sends a request and returns all that comes back until the server closes."""
    with connect(runner) as plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_tasks_come_and_go_by_https(shared: Runner) -> None:
    """Lost: encryption on the way."""
    attempt = shared.run(["echo", "hi"])
    assert (attempt["result"], attempt["output"]) == ("success", "hi\n")
    assert shared.request("HEAD", "/ready").status_code == 200


def test_a_foreign_server_is_noticed(shared: Runner, foreign: Authority) -> None:
    """Lost: the point of certificates: it would not be the configured one that is shown."""
    with pytest.raises(ssl.SSLCertVerificationError):
        exchange(shared, context_for(foreign))


def test_plain_http_gets_nothing(shared: Runner) -> None:
    """Lost: the certainty that nothing, a token for one, is sent in the clear by mistake."""
    with connect(shared) as connection:
        connection.sendall(REQUEST)
        try:
            assert b"HTTP/1" not in connection.recv(65536)
        except ConnectionResetError:
            pass
    await_that(lambda: "sent no request that could be read" in shared.journal(), what="a word about it")


def old_context(ours: Authority, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = context_for(ours)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
def test_only_modern_tls_is_spoken(shared: Runner, ours: Authority, version: str) -> None:
    """Lost: what TLS 1.0 and 1.1 have not had for years, security."""
    context = old_context(ours, ssl.TLSVersion[version])
    if version in ("TLSv1_2", "TLSv1_3"):
        assert b" 200 OK" in exchange(shared, context)
    else:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            exchange(shared, context)


@pytest.mark.parametrize("ciphers", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "AES128-GCM-SHA256"])
def test_weak_ciphers_are_not_spoken(shared: Runner, ours: Authority, ciphers: str) -> None:
    """Lost: forward secrecy, or what CBC has to fear."""
    context = old_context(ours, ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        exchange(shared, context)


def test_web_pages_are_kept_out_and_own_ones_are_not(shared: Runner) -> None:
    """Lost: the guard, or a page that the server's own origin would have."""
    origin = shared.url
    assert shared.get("/ready", headers={"Origin": origin}).status_code == 200
    assert shared.get("/ready", headers={"Origin": origin.replace("https", "http")}).status_code == 403
    assert shared.get("/ready", headers={"Host": "other.example"}).status_code == 421


def test_long_polls_wait_over_tls(shared: Runner) -> None:
    """Lost: answers, when the connection rests between the two halves of an exchange."""
    id = shared.submit(["sleep", "infinity"])

    def wait(_: int) -> str:
        answer = requests.get(
            f"{shared.url}/api/v1/task/{id}?wait=60", verify=shared.http.verify, timeout=90 * SLOWNESS
        )
        return str(answer.json()["result"])

    before = n_sockets(shared)
    with ThreadPoolExecutor(20) as clients:
        results = clients.map(wait, range(20))
        await_that(lambda: n_sockets(shared) >= before + 20, what="20 clients")
        assert shared.delete(f"/api/v1/task/{id}").status_code == 202
        assert list(results) == ["stopped"] * 20
    assert wait(0) == "stopped"


def test_a_client_that_leaves_a_long_poll_is_noticed(shared: Runner, ours: Authority) -> None:
    """Lost: descriptors, one for each client that gave up."""
    id = shared.submit(["sleep", "infinity"])
    await_that(lambda: shared.attempt(id)["start_time"], what="the start")
    before = n_sockets(shared)
    request = f"GET /api/v1/task/{id}?wait=300 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    connections = []
    for _ in range(10):
        connections.append(context_for(ours).wrap_socket(connect(shared), server_hostname="localhost"))
        connections[-1].sendall(request)
    await_that(lambda: n_sockets(shared) >= before + 10, what="10 clients")
    for connection in connections:
        connection.close()
    await_that(lambda: n_sockets(shared) <= before, what="their descriptors to be closed")
    shared.delete(f"/api/v1/task/{id}")
    assert shared.wait(id)["result"] == "stopped"


def test_events_and_followed_output_stream_over_tls(shared: Runner) -> None:
    """Lost: news, which would wait in a buffer until there is more of it."""
    with shared.get("/api/v1/events", stream=True) as events:
        lines = events.iter_lines()
        id = shared.submit(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done"])
        with shared.get(f"/api/v1/task/{id}/output?follow=true", stream=True) as output:
            assert b"".join(output.iter_content(None)) == b"1\n2\n3\n"
        for line in lines:
            if id.encode() in line and b'"completed"' in line:
                break


def test_large_bodies_pass_both_ways(shared: Runner) -> None:
    """Lost: what does not fit into one record of TLS, or one buffer of the kernel's."""
    text = "".join(f"{i:08d}\n" for i in range(50_000))
    id = shared.submit(["cat"], stdin=text)
    assert shared.wait(id)["output"] == text
    big = shared.submit(["sh", "-c", "head -c 12000000 /dev/zero | tr '\\0' x"])
    assert shared.wait(big, seconds=60)["output_bytes"] == 12_000_000
    raw = shared.get(f"/api/v1/task/{big}/output")
    assert len(raw.content) == 12_000_000 and set(raw.content) == {ord("x")}


def test_pipelined_requests_are_all_answered(shared: Runner, ours: Authority) -> None:
    """Lost: requests that came in the same record as the one before, of which no socket tells."""
    id = shared.submit(["sleep", "1"])
    wait = f"GET /api/v1/task/{id}?wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    answer = exchange(shared, context_for(ours), wait * 3 + REQUEST)
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.count(b'"result":"success"') == 3


@pytest.mark.serial
def test_stalled_handshakes_hold_up_nobody(shared: Runner, ours: Authority) -> None:
    """Lost: everybody's requests, or a whole core, to clients that begin a handshake and stop."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    stalled = []
    start = time.monotonic()
    for i in range(100):
        stalled.append(connect(shared))
        stalled[-1].sendall(hello if i % 2 else hello[: len(hello) // 2])

    def ask() -> None:
        assert b" 200 OK" in exchange(shared, context_for(ours))

    times = [seconds_for(ask, shared.main_pid) for _ in range(20)]
    print(f"slowest of 20: {max(times) * 1000:.1f} ms")
    assert sorted(times)[-2] < 0.1 * SLOWNESS and max(times) < 2 * SLOWNESS
    spent = cpu_seconds(shared.main_pid)
    time.sleep(2)
    spent = cpu_seconds(shared.main_pid) - spent
    print(f"CPU in 2 s of waiting: {spent:.2f} s")
    assert spent < 0.2
    for connection in stalled:
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
        connection.close()
    assert 5 < time.monotonic() - start < 15 * SLOWNESS


def test_failed_handshakes_leave_nothing(shared: Runner, ours: Authority, foreign: Authority) -> None:
    """Lost: descriptors and memory, to whoever tries long enough."""
    shared.http.close()
    assert b" 200 OK" in exchange(shared, context_for(ours))
    before = n_sockets(shared)
    for _ in range(50):
        with pytest.raises(ssl.SSLError):
            exchange(shared, context_for(foreign))
        with connect(shared) as connection:
            connection.sendall(b"\x16\x03\x01\x00\x05hello")
    await_that(lambda: n_sockets(shared) <= before, what="all of them to be closed")


def test_dripping_over_tls_is_cut_off(shared: Runner, ours: Authority) -> None:
    """Lost: the bound on a request's time, where it comes in records."""
    with connect(shared) as plain, context_for(ours).wrap_socket(
        plain, server_hostname="localhost"
    ) as connection:
        start = time.monotonic()
        connection.settimeout(0.5)
        connection.sendall(b"POST /api/v1/task HTTP/1.1\r\nHost: localhost\r\n")
        connection.sendall(b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
        answer = b""
        while time.monotonic() - start < 20 * SLOWNESS:
            try:
                connection.sendall(b" ")
                if not (piece := connection.recv(65536)):
                    break
                answer += piece
            except TimeoutError:
                pass
            except (OSError, ssl.SSLError):
                break
        assert 5 < time.monotonic() - start < 15 * SLOWNESS
        assert b"HTTP/1.1 408 " in answer


def give_expired(authority: Authority) -> tuple[Path, Path]:
    """OpenSSL 3.5 gives none that ends before it begins, so this one ends at once."""
    pair = authority.give("expired", "clientAuth", days=0)
    given = time.time()
    await_that(lambda: time.time() > given + 1, what="the end of the second in which it is valid")
    return pair


@pytest.fixture(scope="module")
def clients(ours: Authority, foreign: Authority) -> dict[str, tuple[Path, Path] | None]:
    return {
        "none": None,
        "foreign": foreign.give("client", "clientAuth"),
        "expired": give_expired(ours),
        "for servers": ours.give("for-servers", "serverAuth"),
        "good": ours.give("client", "clientAuth"),
    }


@pytest.mark.parametrize("who", ["none", "foreign", "expired", "for servers", "good"])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_only_the_right_certificate_opens_the_door(
    mutual: Runner,
    ours: Authority,
    clients: dict[str, tuple[Path, Path] | None],
    who: str,
    version: str,
) -> None:
    """Lost: on an open address, the runner, to everybody."""
    context = context_for(ours, clients[who])
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if who == "good":
        assert b" 200 OK" in exchange(mutual, context)
        return
    id = task_id()
    submit = (
        f"POST /api/v1/task/{id} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        "Content-Type: application/json\r\nContent-Length: 21\r\n\r\n"
        '{"command": ["true"]}'
    )
    for request in (REQUEST, REQUEST.replace(b"/api/v1/lease", b"/ready"), submit.encode()):
        answer = exchange(mutual, context, request)
        assert answer.startswith(b"HTTP/1.1 403 ") and b"client certificate" in answer
    good = context_for(ours, clients["good"])
    lookup = REQUEST.replace(b"lease", b"task/" + id.encode())
    assert exchange(mutual, good, lookup).startswith(b"HTTP/1.1 404 ")


def test_with_a_certificate_other_host_names_are_welcome(
    mutual: Runner, ours: Authority, clients: dict[str, tuple[Path, Path] | None]
) -> None:
    """Lost: a runner behind a name that it does not know itself."""
    request = REQUEST.replace(b"localhost", b"runner.example")
    assert b" 200 OK" in exchange(mutual, context_for(ours, clients["good"]), request)
    assert exchange(mutual, context_for(ours), request).startswith(b"HTTP/1.1 421 ")


def test_a_token_is_asked_for_on_top(
    start_runner: Callable[..., Runner],
    ours: Authority,
    server_pair: tuple[Path, Path],
    clients: dict[str, tuple[Path, Path] | None],
) -> None:
    """Lost: the second of two locks, for who has configured both."""
    token = open_folder("/etc") / "token"
    token.write_text(TOKEN)
    config = tls_config(server_pair, ours.cert) | {"auth": {"token_file": str(token)}}
    runner = speak_https(start_runner(config), ours, clients["good"])
    header = {"Authorization": f"Bearer {TOKEN}"}
    assert runner.get("/api/v1/lease").status_code == 401
    assert runner.get("/api/v1/lease", headers=header).status_code == 200
    speak_https(runner, ours)
    assert runner.get("/api/v1/lease", headers=header).status_code == 403


def test_the_unix_socket_stays_plain(
    start_runner: Callable[..., Runner], ours: Authority, server_pair: tuple[Path, Path]
) -> None:
    """Lost: the local way in, which needs no certificates."""
    runner = Runner(tls_config(server_pair))
    unit = Path(f"/run/systemd/system/{runner.name}.socket")
    path = f"/run/{runner.name}.sock"
    port = runner.config["port"]
    unit.write_text(f"[Socket]\nListenStream=127.0.0.1:{port}\nListenStream={path}\nService={runner.unit}\n")
    try:
        runner.properties["Sockets"] = unit.name
        runner._unit_file.write_text(runner._unit_text())
        run("systemctl", "start", unit.name)
        runner.start()
        assert b" 200 OK" in exchange(runner, context_for(ours))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(REQUEST)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
    finally:
        run("systemctl", "stop", unit.name, check=False)
        runner.discard()
        unit.unlink()


def serial_of(runner: Runner) -> int:
    with connect(runner) as plain:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as connection:
            return hash(connection.getpeercert(binary_form=True))


def test_new_certificates_take_a_reload_only(
    start_runner: Callable[..., Runner], ours: Authority, foreign: Authority
) -> None:
    """Lost: all running tasks, to the restart that each renewal of a certificate would take."""
    cert, key = ours.give("renewed")
    client = ours.give("client-of-before", "clientAuth")
    runner = speak_https(start_runner(tls_config((cert, key), ours.cert)), ours, client)
    id = runner.submit(["sh", "-c", "sleep 3; echo done"])
    waiting = requests.Session()
    waiting.verify, waiting.cert = runner.http.verify, runner.http.cert
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(waiting.get, f"{runner.url}/api/v1/task/{id}?wait=60", timeout=90 * SLOWNESS)
        await_that(lambda: runner.attempt(id)["start_time"], what="the start")

        first = serial_of(runner)
        new_cert, new_key = foreign.give("renewed")
        new_client = foreign.give("client-of-now", "clientAuth")
        shutil.copyfile(new_cert, cert)
        runner.reload("make no pair")  # a certificate, and the key of before
        assert serial_of(runner) == first
        assert runner.get("/ready").status_code == 200

        shutil.copyfile(new_key, key)
        shutil.copyfile(foreign.cert, ours_ca := ours.folder / "ca-of-now.crt")
        runner.config["tls"]["client_ca"] = str(ours_ca)
        runner.reload()
        assert serial_of(runner) != first
        runner.http.close()
        assert exchange(runner, context_for(foreign, client)).startswith(b"HTTP/1.1 403 ")
        assert b" 200 OK" in exchange(runner, context_for(foreign, new_client))
        assert answer.result().json()["output"] == "done\n"
    waiting.close()

    speak_https(runner, foreign, new_client)
    before = n_sockets(runner)
    for _ in range(10):
        runner.reload()
        assert runner.get("/ready").status_code == 200
    runner.http.close()
    await_that(lambda: n_sockets(runner) <= before, what="the servers of before to be gone")


def test_streams_of_before_live_through_some_reloads(
    start_runner: Callable[..., Runner], ours: Authority, server_pair: tuple[Path, Path]
) -> None:
    """Lost: an answer that is on its way; or descriptors, to clients that never leave."""
    runner = speak_https(start_runner(tls_config(server_pair)), ours)
    runner.run(["true"])  # from here on it has its connection to the broker
    before = n_sockets(runner)
    streams = []
    for i in range(8):
        with connect(runner) as plain:
            stream = context_for(ours).wrap_socket(plain, server_hostname="localhost")
        stream.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stream.recv(10).startswith(b"HTTP/1.1")
        streams.append(stream)
        runner.reload()
    id = runner.submit(["true"])
    runner.wait(id)

    def has_news(stream: ssl.SSLSocket) -> bool:
        stream.settimeout(10 * SLOWNESS)
        received = b""
        try:
            while id.encode() not in received and (piece := stream.recv(65536)):
                received += piece
        except (ConnectionResetError, ssl.SSLError):
            pass
        return id.encode() in received

    assert [has_news(stream) for stream in streams] == [False] * 4 + [True] * 4
    for stream in streams:
        stream.close()
    runner.http.close()
    await_that(lambda: n_sockets(runner) <= before, what="all of it to be gone")


BAD_FILES = {
    "no such file": ("cert", None, "Cannot read"),
    "empty certificate": ("cert", "", "/tls: "),
    "no certificate": ("cert", "hello\n", "/tls: "),
    "no key": ("key", "hello\n", "/tls: "),
    "empty authority": ("client_ca", "", "/tls/client_ca: "),
    "no authority": ("client_ca", "hello\n", "/tls/client_ca: "),
    "too large": ("client_ca", "x" * 2_000_000, "Cannot read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_stop_the_start(
    start_runner: Callable[..., Runner], ours: Authority, server_pair: tuple[Path, Path], name: str
) -> None:
    """Lost: the reason why daggyr does not start; or worse, that it does, and serves without them."""
    key, content, complaint = BAD_FILES[name]
    path = open_folder("/etc") / "bad.pem"
    if content is not None:
        path.write_text(content)
        path.chmod(0o644)
    config = tls_config(server_pair, ours.cert)
    config["tls"][key] = str(path)
    with pytest.raises(AssertionError, match="did not start") as failure:
        start_runner(config)
    assert complaint in str(failure.value)


def test_an_open_address_takes_more_than_a_server_certificate(
    start_runner: Callable[..., Runner], server_pair: tuple[Path, Path]
) -> None:
    """Lost: the runner, to everybody who can reach it, though encrypted."""
    with pytest.raises(AssertionError, match="client_ca"):
        start_runner(tls_config(server_pair) | {"ip": "0.0.0.0"})
