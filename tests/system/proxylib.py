# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network between two programs that tests can cut, slow down and hold back: a proxy for TCP in this process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from bedlib import next_port

PIECE = 65536


class _Link:
    """One connection: what either side sends goes to the other while the gate of that direction is open.

    Where a gate is closed, neither data nor the end of them gets through, and nobody is told; when it opens, they
    go on, as TCP does after a cut."""

    def __init__(self, client: socket.socket, server: socket.socket, delay: float) -> None:
        self.delay = delay
        self.requests, self.answers = threading.Event(), threading.Event()
        self._sockets = client, server
        self._threads = [
            threading.Thread(target=self._pump, args=(client, server, self.requests), daemon=True),
            threading.Thread(target=self._pump, args=(server, client, self.answers), daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def is_over(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def reset(self) -> None:
        """Both sides are told at once that it is over."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                end.shutdown(socket.SHUT_RDWR)
        self.requests.set()
        self.answers.set()

    def close(self) -> None:
        self.reset()
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def _pump(self, source: socket.socket, target: socket.socket, gate: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                gate.wait()
                time.sleep(self.delay)
                target.sendall(data)
            gate.wait()
            target.shutdown(socket.SHUT_WR)


class Proxy:
    """Listens on a port of its own, and leads to another one of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self.port = next_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._target = port
        self._delay = 0.0
        self._passes_requests = self._passes_answers = True
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for link in self._links:
            link.close()

    def cut(self) -> None:
        """Nothing gets through any more, in connections that there are and in new ones, and nobody is told."""
        self._set(False, False)

    def hold_requests(self) -> None:
        """What clients send waits here; answers get through."""
        self._set(False, True)

    def hold_answers(self) -> None:
        """What clients ask arrives, and is done; they do not hear of it."""
        self._set(True, False)

    def mend(self) -> None:
        """Everything gets through again, what was held back first."""
        self._set(True, True)

    def let_others_pass(self) -> None:
        """What there is stays as it is; connections made from now on are not held back."""
        with self._lock:
            self._passes_requests = self._passes_answers = True

    def reset(self) -> None:
        """Ends the connections that there are."""
        with self._lock:
            for link in self._links:
                link.reset()

    def slow_down(self, seconds: float) -> None:
        """Each piece of data takes so much longer from now on, either way."""
        with self._lock:
            self._delay = seconds
            for link in self._links:
                link.delay = seconds

    @property
    def n_links(self) -> int:
        with self._lock:
            return sum(not link.is_over for link in self._links)

    def _set(self, passes_requests: bool, passes_answers: bool) -> None:
        with self._lock:
            self._passes_requests, self._passes_answers = passes_requests, passes_answers
            for link in self._links:
                self._apply(link)

    def _apply(self, link: _Link) -> None:
        for gate, is_open in (link.requests, self._passes_requests), (link.answers, self._passes_answers):
            gate.set() if is_open else gate.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            for end in client, server:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                link = _Link(client, server, self._delay)
                self._apply(link)
                self._forget_what_is_over()
                self._links.append(link)
                link.start()

    def _forget_what_is_over(self) -> None:
        for link in [link for link in self._links if link.is_over]:
            link.close()
            self._links.remove(link)
