# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host whose users are known to a name service that is slow, or does not answer at all."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from bedlib import RELOADED, SLOWNESS, Runner, await_that, cgroup_procs, run, task_id, unit_property
from probelib import ReadyProbe

pytestmark = [
    pytest.mark.serial,
    pytest.mark.skipif(not shutil.which("gcc"), reason="the name service is compiled here"),
]

# It knows "slow-SECONDS-…", after so many seconds, and nobody else.
NAME_SERVICE = r"""
#include <errno.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum nss_status _nss_daggyrslow_getpwnam_r(const char *name, struct passwd *pw, char *buffer, size_t size, int *error) {
        unsigned seconds;
        if (sscanf(name, "slow-%u-", &seconds) != 1)
                return NSS_STATUS_NOTFOUND;
        for (unsigned left = seconds; left > 0;)
                left = sleep(left);
        if (snprintf(buffer, size, "%s", name) >= (int) size) {
                *error = ERANGE;
                return NSS_STATUS_TRYAGAIN;
        }
        *pw = (struct passwd){ buffer, "x", 31000 + seconds, 31000 + seconds, "", "/", "/bin/sh" };
        return NSS_STATUS_SUCCESS;
}
"""
LIBRARY = "libnss_daggyrslow.so.2"
SWITCH = Path("/etc/nsswitch.conf")


@pytest.fixture(scope="module", autouse=True)
def name_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    source = tmp_path_factory.mktemp("nss") / "slow.c"
    source.write_text(NAME_SERVICE)
    target = Path("/usr/lib") / run("gcc", "-print-multiarch").strip() / LIBRARY
    run("gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{LIBRARY}", "-o", str(target), str(source))
    before = SWITCH.read_text() if SWITCH.exists() else None
    lines = (before or "passwd: files\ngroup: files\n").splitlines()
    SWITCH.write_text(
        "\n".join(f"{line} daggyrslow" if line.startswith("passwd:") else line for line in lines) + "\n"
    )
    yield
    target.unlink()
    if before is None:
        SWITCH.unlink()
    else:
        SWITCH.write_text(before)


def submission(runner: Runner, user: str, **fields: Any) -> requests.Response:
    body = {"command": ["id", "-u"], "user": user} | fields
    return requests.post(f"{runner.url}/api/v1/task/{task_id()}", json=body, timeout=60 * SLOWNESS)


SLOW = [f"slow-5-{i}" for i in range(20)]
SILENT = [f"slow-40-{i}" for i in range(3)]
ALLOWED = {"allowed_users": [*SLOW, *SILENT], "capacity_overrides": {"cores": 32, "memory_mb": 65536}}
TINY = {"cores": 0.1, "memory_mb": 16}


def test_a_slow_lookup_holds_up_nobody_else(start_runner: Callable[..., Runner]) -> None:
    """Lost: everybody waits ten seconds whenever somebody submits a task for a user whose lookup takes five."""
    runner = start_runner(ALLOWED)
    with ThreadPoolExecutor(1) as pool, ReadyProbe(runner) as probe:
        slow = pool.submit(submission, runner, SLOW[0])
        while not slow.done():
            began = time.monotonic()
            assert runner.run(["true"], resources=TINY)["succeeded"]
            assert time.monotonic() - began < 2 * SLOWNESS
        answer = slow.result()
    assert answer.status_code == 202, answer.text
    assert runner.wait(answer.json()["task_id"])["output"] == "31005\n"
    assert probe.slowest < 0.5 * SLOWNESS


def test_a_name_service_that_is_silent_is_given_up(start_runner: Callable[..., Runner]) -> None:
    """Lost: the watchdog kills daggyr, and every task of everybody with it."""
    runner = start_runner(ALLOWED)
    pid = runner.main_pid
    with ThreadPoolExecutor(3) as pool, ReadyProbe(runner) as probe:
        answers = list(pool.map(lambda user: submission(runner, user), SILENT))
    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert answer.headers.get("Retry-After") == "5", answer.text
        assert answer.elapsed.total_seconds() < 10 * SLOWNESS
    assert probe.slowest < 0.5 * SLOWNESS
    assert runner.run(["true"], resources=TINY)["succeeded"]
    assert runner.main_pid == pid
    await_that(lambda: cgroup_procs(runner.unit) == [pid], what="the lookups to be gone")


def test_those_who_ask_for_the_same_account_share_a_lookup(start_runner: Callable[..., Runner]) -> None:
    """Lost: one client's tasks are a flood for the name service, or take all processes."""
    runner = start_runner(ALLOWED)
    with ThreadPoolExecutor(20) as pool:
        pending = [pool.submit(submission, runner, SLOW[1], resources=TINY) for _ in range(20)]
        await_that(lambda: len(cgroup_procs(runner.unit)) == 2, what="one lookup")
        seen = set()
        while not all(answer.done() for answer in pending):
            seen.add(len(cgroup_procs(runner.unit)))
            time.sleep(0.1)
    assert max(seen) == 2
    for answer in pending:
        assert runner.wait(answer.result().json()["task_id"])["output"] == "31005\n"


def test_a_task_that_waits_for_its_account_lets_others_pass(start_runner: Callable[..., Runner]) -> None:
    """Lost: the lookup at the start holds up the tasks behind, whose accounts are known."""
    runner = start_runner(ALLOWED | {"capacity_overrides": {"cores": 1, "memory_mb": 1024}})
    blocker = runner.submit(["sleep", "infinity"], resources={"cores": 1, "memory_mb": 16})
    answer = submission(runner, SLOW[2], resources={"cores": 1, "memory_mb": 16})
    assert answer.status_code == 202, answer.text
    waiting = answer.json()["task_id"]
    time.sleep(5.2)  # what was looked up is no longer of this moment
    behind = runner.submit(["true"], resources={"cores": 1, "memory_mb": 16})
    runner.delete(f"/api/v1/task/{blocker}")
    assert runner.wait(behind, 3)["succeeded"]
    assert runner.attempt(waiting)["state"] == "queued"
    assert runner.wait(waiting)["output"] == "31005\n"


def test_a_reload_waits_for_the_new_account_apart(start_runner: Callable[..., Runner]) -> None:
    """Lost: a change of the configuration stops the runner for as long as the name service takes."""
    runner = start_runner(ALLOWED)
    runner.config_file.write_text(runner.config_file.read_text().replace("{", '{"task_user": "slow-5-new", ', 1))
    with ReadyProbe(runner) as probe:
        run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", runner.unit)
        await_that(lambda: RELOADED in runner.journal(), timeout=20, what="the reload")
    assert probe.slowest < 0.5 * SLOWNESS
    assert runner.run(["id", "-u"], resources=TINY)["output"] == "31005\n"
    assert unit_property(runner.unit, "ActiveState") == "active"


def test_a_batch_looks_each_account_up_once(start_runner: Callable[..., Runner]) -> None:
    """Lost: a batch of many users' tasks takes the sum of all lookups."""
    runner = start_runner(ALLOWED)
    body = [
        {"task_id": task_id(), "command": ["id", "-un"], "user": user, "resources": TINY} for user in SLOW[3:] * 2
    ]
    began = time.monotonic()
    outcomes = runner.post("/api/v1/tasks", json=body).json()
    assert time.monotonic() - began < 9 * SLOWNESS
    assert [outcome["status"] for outcome in outcomes] == [202] * len(body)
    for task, outcome in zip(body, outcomes):
        assert runner.wait(outcome["task_id"])["state"] in ("completed", "errored"), task


def test_a_client_that_goes_away_while_it_waits_harms_nobody(start_runner: Callable[..., Runner]) -> None:
    """Lost: a crash, by whoever is impatient."""
    runner = start_runner(ALLOWED)
    for _ in range(3):
        with pytest.raises(requests.Timeout):
            requests.post(f"{runner.url}/api/v1/task", json={"command": ["true"], "user": SLOW[0]}, timeout=0.3)
    subprocess.run(["sleep", "6"], check=True)
    assert runner.run(["true"], resources=TINY)["succeeded"]
    assert runner.get("/api/v1/tasks").json()["tasks"][-1]["command"] == ["true"]
