# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an answer costs, beside a server of libmicrohttpd that does nothing but answer, with the same client."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchlib import PORT, Bed, Row, command, row

N_REQUESTS = 20000
CONNECTIONS = 8
BARE_PORT = 2599
BARE_UNIT = "bench-http-bare.service"
TASK = "bench-http"


def rows(bed: Bed) -> list[Row]:
    bed.start_daggyr()
    _ask("POST", f"/api/v1/task/{TASK}", '{"command": ["/bin/true"]}')
    attempt = f"/api/v1/task/{TASK}"
    size = len(_ask("GET", f"{attempt}?wait=60"))
    return _pair(bed, "/ready", 0) + _pair(bed, attempt, size)


def _ask(method: str, path: str, body: str | None = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status not in (200, 202):
        raise RuntimeError(f"{method} {path}: {answer.status}")
    return answer.read()


def _pair(bed: Bed, path: str, size: int) -> list[Row]:
    load = partial(_load, bed, bed.count(N_REQUESTS))
    with _bare_server(bed, size):
        outcomes = bed.in_turns({"bare": partial(load, BARE_PORT, path), "daggyr": partial(load, PORT, path)})
    bed.details[f"http {path}"] = outcomes
    own, bare = ([outcome["rate"] for outcome in outcomes[who]] for who in ("daggyr", "bare"))
    return [row(f"GET {'/ready' if path == '/ready' else 'of an attempt'}", "requests/s", own, "higher", bare)]


def _load(bed: Bed, count: int, port: int, path: str) -> dict[str, Any]:
    return bed.tool("http-load", port, "get", path, count, CONNECTIONS)


@contextmanager
def _bare_server(bed: Bed, size: int) -> Iterator[None]:
    """As a service, with daggyr's share of the CPU time."""
    command(
        *("systemd-run", "--quiet", "--collect", f"--unit={BARE_UNIT}", "--property=CPUWeight=500"),
        *(str(bed.tools / "http-bare"), str(BARE_PORT), str(size)),
    )
    try:
        _await_listener(BARE_PORT)
        yield
    finally:
        command("systemctl", "stop", BARE_UNIT)


def _await_listener(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
