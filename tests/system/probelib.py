# SPDX-License-Identifier: LGPL-2.1-or-later
"""How quickly a daemon answers, whatever else goes on in this bed and beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests

from bedlib import SLOWNESS, Runner


def waited_for_processor(process: str) -> float:
    """The seconds that a process in /proc has wanted to run, and others ran."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9


def seconds_for(ask: Callable[[], None], daemon: int) -> float:
    """How long the daemon took for what is asked, less what it and this thread waited for a processor meanwhile: that
    is the machine's affair."""

    def waited() -> float:
        return waited_for_processor(str(daemon)) + waited_for_processor("thread-self")

    began, waited_before = time.monotonic(), waited()
    ask()
    return time.monotonic() - began - (waited() - waited_before)


class ReadyProbe:
    """Asks /ready all the time, and keeps how long each answer took."""

    def __init__(self, runner: Runner) -> None:
        self.url = f"{runner.url}/ready"
        self._pid = runner.main_pid
        self.seconds: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> ReadyProbe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with requests.Session() as http:
            http.trust_env = False

            def ask() -> None:
                assert http.get(self.url, timeout=60 * SLOWNESS).status_code == 200

            while not self._stop.wait(0.005):
                self.seconds.append(seconds_for(ask, self._pid))

    @property
    def slowest(self) -> float:
        return max(self.seconds)
