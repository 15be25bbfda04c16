# SPDX-License-Identifier: LGPL-2.1-or-later
"""The wall clock is set while daggyr works: by an administrator, or by NTP after a boot without a battery.

The machine's clock is shared with everything else here, so it is the daemon's view of it that jumps: a
library, loaded before the others, adds to whatever the kernel says the time of day is.
"""

from __future__ import annotations

import re
import shutil
import struct
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from bedlib import ROOMY, SLOWNESS, Queue, Runner, await_that, run, task_id

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs a compiler for its library")

DAY = 86400
LEASE_SECONDS = 1800
"""Longer than any test takes."""

SHIM = r"""
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *seconds;

__attribute__((constructor)) static void open_offset(void) {
        int fd = open(getenv("DAGGYR_TEST_CLOCK"), O_RDONLY | O_CLOEXEC);
        void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*seconds), PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                abort();
        close(fd);
        seconds = map;
}

int clock_gettime(clockid_t clock, struct timespec *ret) {
        int r = (int) syscall(SYS_clock_gettime, clock, ret);
        if (r == 0 && seconds && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
                ret->tv_sec += *seconds;
        return r;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone) {
        struct timespec now;
        int r = clock_gettime(CLOCK_REALTIME, &now);
        ret->tv_sec = now.tv_sec;
        ret->tv_usec = now.tv_nsec / 1000;
        return r;
}

time_t time(time_t *ret) {
        struct timespec now;
        (void) clock_gettime(CLOCK_REALTIME, &now);
        if (ret)
                *ret = now.tv_sec;
        return now.tv_sec;
}
"""


class Clock:
    """The wall clock as one daemon sees it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o755)
        (folder / "clock.c").write_text(SHIM)
        run("gcc", "-O2", "-shared", "-fPIC", "-o", str(folder / "clock.so"), str(folder / "clock.c"))
        self._offset = folder / "offset"
        self.set(0)
        library, file = folder / "clock.so", self._offset
        self.properties = {"Environment": [f"LD_PRELOAD={library}", f"DAGGYR_TEST_CLOCK={file}"]}

    def set(self, ahead_seconds: int) -> None:
        """In place: it is mapped."""
        with self._offset.open("r+b" if self._offset.exists() else "xb") as file:
            file.write(struct.pack("=q", ahead_seconds))


@pytest.fixture
def clock() -> Generator[Clock, None, None]:
    folder = Path("/var/lib", task_id("daggyr-test-clock"))  # Debian's initramfs mounts /run noexec
    yield Clock(folder)
    shutil.rmtree(folder)


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)


def seconds_between(attempt: dict[str, Any], first: str, last: str) -> float:
    return (moment(attempt[last]) - moment(attempt[first])).total_seconds()


def ask_lease(runner: Runner, queue: str, ttl: float) -> Any:
    return runner.post("/api/v1/lease", json={"queue": queue, "version": "1", "ttl": ttl})


def await_jump(runner: Runner, ahead_seconds: int) -> None:
    """Makes sure that the daemon believes the library: a new task shows the new time."""
    shown = moment(runner.attempt(runner.submit(["true"]))["submit_time"])
    expected = datetime.now(timezone.utc) + timedelta(seconds=ahead_seconds)
    assert abs(shown - expected) < timedelta(seconds=30 * SLOWNESS)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.monotonic()
    return call(), time.monotonic() - start


@pytest.mark.plain
@pytest.mark.parametrize("ahead", [DAY, -DAY], ids=["forwards", "backwards"])
def test_a_jump_of_the_wall_clock_changes_no_duration(
    start_runner: Callable[..., Runner], clock: Clock, ahead: int
) -> None:
    """Lost: every task with a timeout, the lease and all results, to a clock that NTP sets right; or tasks
    that are not stopped and leases that do not end, for a day."""
    patience, slack = 3 * SLOWNESS, 5 * SLOWNESS
    runner = start_runner(ROOMY | {"result_ttl": 2 * patience}, properties=clock.properties)
    await_jump(runner, 0)
    submitted = time.monotonic()
    limited = runner.submit(["sleep", "infinity"], timeout=patience)
    endless = runner.submit(["sleep", "infinity"])
    for id in (limited, endless):
        await_that(lambda id=id: runner.attempt(id)["start_time"], what=f"the start of {id}")
    finished = runner.run(["true"])["task_id"]
    began = time.monotonic()
    lease_id = ask_lease(runner, "queue.example:1", LEASE_SECONDS).json()["lease_id"]
    with ThreadPoolExecutor() as pool:
        poll = pool.submit(timed, lambda: runner.attempt(endless, wait=patience))
        two = "daggyr_http_connections 2\n"
        await_that(lambda: two in runner.get("/metrics").text, what="the client that waits")
        clock.set(ahead)
        lease = {"Daggyr-Lease": lease_id}
        after = runner.post("/api/v1/task", json={"command": ["true"]}, headers=lease).json()
        expected = datetime.now(timezone.utc) + timedelta(seconds=ahead)
        assert abs(moment(after["submit_time"]) - expected) < timedelta(seconds=30 * SLOWNESS)

        held = ask_lease(runner, "other.example:1", LEASE_SECONDS)
        assert held.status_code == 409
        assert LEASE_SECONDS - slack < held.json()["expires_in"] <= LEASE_SECONDS
        assert runner.attempt(finished)["result"] == "success"
        assert runner.attempt(limited)["state"] == "running" or time.monotonic() - submitted > patience
        attempt, took = poll.result()
    assert attempt["state"] == "running"
    assert patience - 0.1 <= took < patience + slack

    attempt = runner.wait(limited)
    assert attempt["result"] == "timeout"
    # The limit counts from the order to execute, which is between the two moments.
    assert patience - 0.1 <= seconds_between(attempt, "submit_time", "stop_time")
    assert seconds_between(attempt, "start_time", "stop_time") < patience + slack
    assert 0 <= seconds_between(attempt, "submit_time", "start_time") < slack
    assert attempt["max_cpu"] < 100
    gone = lambda: runner.get(f"/api/v1/task/{finished}").status_code == 404  # noqa: E731
    await_that(gone, timeout=2 * patience + slack, what="the result to be forgotten in its time")
    assert time.monotonic() - began > 2 * patience - 1

    renewed = runner.put(f"/api/v1/lease/{lease_id}").json()
    late = moment(renewed["expires"]) - (expected + timedelta(seconds=LEASE_SECONDS))
    assert abs(late) < timedelta(minutes=2 * SLOWNESS)
    assert runner.delete(f"/api/v1/lease/{lease_id}").status_code == 204
    metrics = runner.get("/metrics").text
    for name in ("daggyr_task_run_seconds_sum", "daggyr_task_start_seconds_sum"):
        found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
        assert found and 0 <= float(found[1]) < DAY / 2


@pytest.mark.plain
@pytest.mark.parametrize("ahead", [DAY, -DAY], ids=["forwards", "backwards"])
def test_a_lease_ends_in_its_time_whatever_the_wall_clock_says(
    start_runner: Callable[..., Runner], clock: Clock, ahead: int
) -> None:
    """Lost: a runner to a queue that is gone, or two queues at once on one runner."""
    runner = start_runner(ROOMY, properties=clock.properties)
    ttl = 4 * SLOWNESS
    began = time.monotonic()
    assert ask_lease(runner, "queue.example:1", ttl).status_code == 201
    clock.set(ahead)
    await_that(
        lambda: ask_lease(runner, "other.example:1", 60).status_code == 201,
        timeout=10 + ttl,
        what="the end of the lease",
    )
    assert ttl - 0.1 <= time.monotonic() - began < ttl + 5 * SLOWNESS


@pytest.mark.parametrize("ahead", [30 * DAY, -30 * DAY], ids=["forwards", "backwards"])
def test_no_clock_makes_a_retry_wait_for_longer_than_it_asked(
    start_runner: Callable[..., Runner], start_queue: Callable[..., Queue], clock: Clock, ahead: int
) -> None:
    """Lost: a task, for the month by which the clock was set back while the queue was away."""
    queue = start_queue({"w": start_runner(ROOMY)}, properties=clock.properties)
    id = queue.submit(["false"], retry={"max": 1, "backoff": 3})
    await_that(lambda: queue.attempt(id)["attempts"], what="the first attempt to fail")
    queue.stop()
    clock.set(ahead)
    queue.start()
    attempt, seconds = timed(lambda: queue.wait(id, 60))
    assert attempt["state"] == "errored" and len(attempt["attempts"]) == 1
    assert seconds < 10 * SLOWNESS


def test_a_clock_that_is_ahead_for_a_moment_costs_no_result_of_the_queue(
    start_runner: Callable[..., Runner], start_queue: Callable[..., Queue], clock: Clock
) -> None:
    """Lost: all results at once, which were to be kept for a week, to one wrong answer of a time server."""
    queue = start_queue({"w": start_runner(ROOMY)}, {"results_max": 3}, properties=clock.properties)
    ids = [queue.submit(["true"])]
    queue.wait(ids[0])

    def told_anew(ahead: int) -> None:
        """By a restart, which looks for old results before anything else, and by a result of that time."""
        queue.stop()
        clock.set(ahead)
        queue.start()
        ids.append(queue.submit(["true"]))
        shown = moment(queue.wait(ids[-1])["submit_time"])
        assert abs(shown - datetime.now(timezone.utc) - timedelta(seconds=ahead)) < timedelta(seconds=60 * SLOWNESS)

    for ahead in (30 * DAY, -30 * DAY, 0, 0):
        told_anew(ahead)
        for id in ids[-3:]:
            assert queue.attempt(id)["result"] == "success"
