# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients at a Unix socket, of whatever account: each is a process of its own, for it is the process that
the kernel and polkit know."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from requests.structures import CaseInsensitiveDict

import openapi
from bedlib import PYTHON, SLOWNESS, Runner, run

ROOT = ("root", "root", "")
NOBODY = ("nobody", "nogroup", "")

# Reads requests from stdin, one JSON array a line, and writes what came of each: as many to one connection
# as it stays open for.
_CLIENT = """
import http.client, json, socket, sys, time
class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(sys.argv[1])
connection = Connection("localhost", timeout=float(sys.argv[2]))
for line in sys.stdin:
    method, path, headers, body = json.loads(line)
    start = time.monotonic()
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        said = [answer.status, answer.getheaders(), answer.read().decode("latin-1")]
    except OSError as error:
        connection.close()
        said = type(error).__name__
    print(json.dumps([time.monotonic() - start, said]), flush=True)
"""


class Peer:
    """A client process with this user, group and supplementary groups ("a,b" or "")."""

    def __init__(self, path: Path, account: tuple[str, str, str] = ROOT) -> None:
        user, group, groups = account
        self.seconds = 0.0
        self._process = subprocess.Popen(
            ["setpriv", f"--reuid={user}", f"--regid={group}"]
            + [f"--groups={groups}" if groups else "--clear-groups"]
            + [PYTHON, "-c", _CLIENT, str(path), str(60 * SLOWNESS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> None:
        """Only sends; receive() has the answer."""
        self._request = requests.Request(method, f"http://localhost{path}", headers=headers, **options)
        prepared = self._request.prepare()
        body = prepared.body.decode() if isinstance(prepared.body, bytes) else prepared.body
        assert self._process.stdin
        print(json.dumps([method, path, dict(prepared.headers), body]), file=self._process.stdin, flush=True)

    def receive(self) -> requests.Response:
        """The answer, held against what is documented; PermissionError and so on if there is none."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        self.seconds, said = json.loads(line)
        if isinstance(said, str):
            raise OSError(said)
        answer = requests.Response()
        answer.request = self._request.prepare()
        answer.status_code, headers, content = said
        answer.headers = CaseInsensitiveDict(headers)
        answer._content = content.encode("latin-1")
        openapi.check(answer)
        return answer

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        self.send(method, path, **options)
        return self.receive()

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.request("POST", path, **options)


class UnixRunner(Runner):
    """A daggyr with a Unix socket from systemd, beside its port: by default as daggyr.socket has it."""

    def __init__(
        self, config: dict[str, Any] | None = None, mode: str = "0660", ip: str = "127.0.0.1", **options: Any
    ) -> None:
        super().__init__(config, **options)
        self.path = Path(f"/run/{self.name}.sock")
        self._mode, self._ip = mode, ip
        self._socket_file = Path("/run/systemd/system", f"{self.name}.socket")

    def start(self) -> UnixRunner:
        self._socket_file.write_text(
            f"[Socket]\nListenStream={self._ip}:{self.config['port']}\nListenStream={self.path}\n"
            f"SocketUser=root\nSocketGroup=daggyr\nSocketMode={self._mode}\nBacklog=4096\n"
            f"Service={self.unit}\n"
        )
        self.properties["Sockets"] = self._socket_file.name
        self._unit_file.write_text(self._unit_text())
        run("systemctl", "start", self._socket_file.name)
        super().start()
        return self

    def discard(self) -> None:
        run("systemctl", "stop", self._socket_file.name, check=False, stderr=subprocess.DEVNULL)
        super().discard()
        self._socket_file.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def peer(self, account: tuple[str, str, str] = ROOT) -> Peer:
        return Peer(self.path, account)


RULES = Path("/etc/polkit-1/rules.d")


@contextmanager
def polkit_rule(text: str) -> Iterator[None]:
    """polkit has noticed neither the beginning nor the end of it at once: await what follows from it."""
    RULES.mkdir(parents=True, exist_ok=True)
    file = RULES / f"10-test-{os.getpid()}-{time.monotonic_ns()}.rules"
    file.write_text(text)
    file.chmod(0o644)
    try:
        yield
    finally:
        file.unlink()
