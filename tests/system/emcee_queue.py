# SPDX-License-Identifier: LGPL-2.1-or-later
"""A queue that answers as Emcee's do: no Content-Length, the end is where the connection closes, sets in any
order, JSON pretty-printed with sorted keys and "/" escaped."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

Answer = Callable[[Any], Any]


def emcee_json(value: Any) -> bytes:
    """As Swift's JSONEncoder writes it with .prettyPrinted and .sortedKeys."""
    text = json.dumps(value, indent=2, sort_keys=True, separators=(",", " : "))
    return text.replace("/", "\\/").encode()


class Raw(bytes):
    """An answer to be sent just so."""


class EmceeQueue:
    """Listens on a port of 127.0.0.1. What it answers to each path is in answers: a function of the request's
    body that returns JSON, or Raw bytes, or None for a connection that is closed without answer."""

    def __init__(self, port: int, version: str, workers: list[str]) -> None:
        self.address = f"127.0.0.1:{port}"
        self.version = version
        self.workers = workers
        self.delay = 0.0
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, Answer] = {
            "/queueVersion": lambda _: {"responseType": "queueVersion", "version": self.version},
            "/workerIds": lambda _: {"workerIds": random.sample(self.workers, len(self.workers))},
        }
        self._listener = socket.create_server(("127.0.0.1", port))
        self._closing = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> EmceeQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def count(self, path: str) -> int:
        return sum(called == path for called, _, _ in self.calls)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                head, body = _read_request(connection)
                path, headers = _parse_head(head)
                self.calls.append((path, headers, body))
                time.sleep(0) if not self.delay else self._closing.wait(self.delay)
                connection.sendall(self._compose(path, body))
            except (OSError, ValueError):
                pass

    def _compose(self, path: str, body: bytes) -> bytes:
        answer = self.answers.get(path)
        if not answer:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        try:
            value = answer(json.loads(body))
        except ValueError:
            return emcee_error(path, "not JSON")
        if value is None:
            return b""
        if isinstance(value, Raw):
            return bytes(value)
        head = b"HTTP/1.1 200 OK\r\nServer: Swifter Unspecified\r\nContent-Type: application/json\r\n\r\n"
        return head + emcee_json(value)


def emcee_error(path: str, error: str) -> Raw:
    text = f'Failed to process request with path "{path}", error: "{error}"'.encode()
    return Raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))


def _read_request(connection: socket.socket) -> tuple[bytes, bytes]:
    """The body by its Content-Length only: without one it is empty."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            raise ValueError("no request")
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(_parse_head(head)[1].get("content-length", "0"))
    while len(body) < length:
        more = connection.recv(65536)
        if not more:
            raise ValueError("half a body")
        body += more
    return head, body


def _parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return first.split(" ")[1].partition("?")[0], headers
