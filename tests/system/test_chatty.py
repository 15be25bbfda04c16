# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tasks that write as fast as they can, and everybody else meanwhile."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from bedlib import PYTHON, ROOMY, SLOWNESS, Runner, await_that, journal_of, load, scope_of

N_CHATTY = load(64)
SECONDS = 5
BURST = 8000
"""Lines of a task that go to the journal within half a minute."""

KEPT = 1 << 20
"""Bytes of an output that the runner keeps; each task writes more, however slow the machine is."""

CHATTY = f"""
import os, sys, time
end = time.monotonic() + {SECONDS}
piece = b''.join(b'line %06d of a task that talks and talks and talks\\n' % n for n in range(1000))
n = 0
while time.monotonic() < end or n <= {KEPT}:
    n += os.write(1, piece)
sys.stderr.write(str(n))
"""


def entries(unit: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal_of(unit, output="json").splitlines()]


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


class Probe:
    """Asks for /ready over one connection, with as little work of its own as can be."""

    def __init__(self, runner: Runner) -> None:
        self._connection = socket.create_connection(("127.0.0.1", runner.config["port"]), 30 * SLOWNESS)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self) -> float:
        """Seconds until the answer was there."""
        start = time.perf_counter()
        self._connection.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = self._connection.recv(4096)
        took = time.perf_counter() - start
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n"), answer
        return took


@pytest.mark.serial
def test_64_chatty_tasks_delay_nobody_and_are_counted_exactly(
    start_runner: Callable[..., Runner], record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Lost: one build with verbose output would make the runner look dead to its queue."""
    cores = {"cores": 64, "memory_mb": 65536}
    runner = start_runner({"capacity_overrides": cores, "output_max_bytes": KEPT})
    quiet = runner.submit(["sh", "-c", "for n in $(seq 50); do echo quiet $n; sleep 0.1; done"])
    fields = {"command": [PYTHON, "-S", "-E", "-c", CHATTY], "resources": {"cores": 0.5, "memory_mb": 64}}
    ids = [runner.submit(**fields) for _ in range(N_CHATTY)]
    await_that(
        lambda: all(runner.attempt(id, output="none")["output_bytes"] for id in ids[-3:]),
        timeout=30,
        what="all to talk",
    )
    took: list[float] = []
    os.nice(-10)
    try:
        with Probe(runner) as probe:
            end = time.monotonic() + SECONDS * 0.8
            while time.monotonic() < end:
                took.append(probe.ask())
    finally:
        os.nice(10)
    figures = {f"p{percent}": 1000 * percentile(took, percent) for percent in (50, 90, 99, 99.9, 100)}
    told = ", ".join(f"{name} {value:.2f} ms" for name, value in figures.items())
    print(f"/ready beside {N_CHATTY} chatty tasks, {len(took)} times: {told}; load {os.getloadavg()[0]:.1f}")
    for name, value in figures.items():
        record_testsuite_property(f"chatty_ready_{name}_ms", round(value, 2))

    total = 0
    for id in ids:
        attempt = runner.wait(id, seconds=120)
        assert attempt["succeeded"], attempt
        assert attempt["output_bytes"] == int(attempt["error"])
        assert attempt["output_truncated"] and len(attempt["output"]) == KEPT
        total += attempt["output_bytes"]
    print(f"{total / SECONDS / 1e6:.0f} MB/s in sum")
    record_testsuite_property("chatty_megabytes_per_second", round(total / SECONDS / 1e6))
    assert runner.wait(quiet)["output"].splitlines()[-1] == "quiet 50"
    lines = [entry["MESSAGE"] for entry in entries(scope_of(quiet)) if entry.get("DAGGYR_STREAM")]
    assert lines == [f"quiet {n}" for n in range(1, 51)]
    assert figures["p99"] <= 10 * SLOWNESS


def test_a_chatty_task_is_cut_in_the_journal_and_what_is_missing_is_counted(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: a task could wash everybody's entries out of the journal, or lose its own without a word."""
    runner = start_runner(ROOMY)
    n_lines = BURST + 12345
    attempt = runner.run(["seq", str(n_lines)])
    output = "".join(f"{n}\n" for n in range(1, n_lines + 1))
    assert (attempt["output"], attempt["output_bytes"]) == (output, len(output))
    noted = [found[1] for note in attempt["executor"] if (found := re.search(r"(\d+) lines", note))]
    assert len(noted) == 1, attempt["executor"]

    def finished() -> list[dict[str, Any]]:
        return [entry for entry in found if entry.get("DAGGYR_RESULT")]

    def look() -> list[dict[str, Any]]:
        found[:] = entries(attempt["unit"])
        return finished()

    found: list[dict[str, Any]] = []
    await_that(look, what="the final message")
    lines = [entry["MESSAGE"] for entry in found if entry.get("DAGGYR_STREAM") == "stdout"]
    assert lines == [str(n) for n in range(1, len(lines) + 1)]
    assert 0 < len(lines) <= BURST
    dropped = re.search(r"(\d+) lines", finished()[0]["MESSAGE"])
    assert dropped, finished()
    assert len(lines) + int(dropped[1]) == n_lines
    assert int(noted[0]) == int(dropped[1])
    assert f"\ndaggyr_journal_lines_dropped_total {noted[0]}\n" in runner.get("/metrics").text


def test_others_are_heard_in_the_journal_beside_a_chatty_task(start_runner: Callable[..., Runner]) -> None:
    """Lost: the entries of other tasks and services, when one talks too much."""
    runner = start_runner(ROOMY)
    chatty = runner.submit([PYTHON, "-c", CHATTY.replace(f"+ {SECONDS}", "+ 2")])
    quiet = [runner.run(["seq", "500"])["task_id"] for _ in range(4)]
    attempt = runner.wait(chatty)
    assert attempt["output_bytes"] == int(attempt["error"])
    for id in quiet:
        lines = await_that(
            lambda: [entry["MESSAGE"] for entry in entries(scope_of(id)) if entry.get("DAGGYR_STREAM")],
            what=f"output of {id}",
        )
        assert lines == [str(n) for n in range(1, 501)]


def test_bytes_beyond_the_limit_are_counted_exactly(start_runner: Callable[..., Runner]) -> None:
    """Lost: knowing how much is missing, and the very first bytes, which are kept."""
    for limit in (0, 1, 65535, 65536, 65537, 1_000_000):
        runner = start_runner(ROOMY | {"output_max_bytes": limit, "journal": False})
        n = 3_000_017
        script = f"import os\nfor fd in 1, 2:\n n = {n + 1} - fd\n"
        script += " while n: n -= os.write(fd, b'x' * min(n, 70001))"
        attempt = runner.run([PYTHON, "-c", script])
        assert (attempt["output_bytes"], attempt["error_bytes"]) == (n, n - 1)
        assert (attempt["output"], attempt["error"]) == ("x" * limit, "x" * limit)
        assert attempt["output_truncated"] and attempt["error_truncated"]
        path = f"/api/v1/task/{attempt['task_id']}/output"
        assert runner.get(path).content == b"x" * limit
        runner.discard()


def test_a_chatty_task_is_stopped_like_any_other(start_runner: Callable[..., Runner]) -> None:
    """Lost: the one task that should be stopped could not be, because it keeps the daemon busy."""
    runner = start_runner(ROOMY | {"output_max_bytes": 1000})
    ids = [runner.submit(["yes"]) for _ in range(4)]
    await_that(lambda: all(runner.attempt(id)["output_bytes"] for id in ids), what="output")
    start = time.monotonic()
    for id in ids:
        attempt = runner.delete(f"/api/v1/task/{id}?wait=60").json()
        assert (attempt["result"], attempt["signal"]) == ("stopped", "SIGTERM")
    assert time.monotonic() - start < 30 * SLOWNESS
