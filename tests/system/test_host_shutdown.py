# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host is about to go down: logind's announcement, what it grants tasks, and a shutdown called off.

The announcement is that of the real logind, asked to reboot. Only the target it then starts is another:
one that does nothing, so the machine stays and logind takes its word back, as after a reboot that failed.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from bedlib import ROOMY, SLOWNESS, Runner, await_that, restart_logind, run, submit_gated, task_id, unit_property

pytestmark = pytest.mark.serial

LOGIN1 = ("org.freedesktop.login1", "/org/freedesktop/login1")
MANAGER = f"{LOGIN1[0]}.Manager"
RUN_SYSTEMD = Path("/run/systemd/system")
DELAY_CONF = Path("/run/systemd/logind.conf.d/daggyr-test.conf")
LEASE = {"queue": "queue.example:2503", "version": "1", "ttl": 60}


def override(unit: str) -> None:
    """Has systemd know a target by this name that does nothing, and may be started by hand."""
    (RUN_SYSTEMD / unit).write_text("[Unit]\nDescription=Harmless\nDefaultDependencies=no\n")
    run("systemctl", "daemon-reload")


def restore(unit: str) -> None:
    run("systemctl", "stop", "--job-mode=ignore-dependencies", unit)
    (RUN_SYSTEMD / unit).unlink()
    run("systemctl", "daemon-reload")


@pytest.fixture
def logind() -> Generator[None, None, None]:
    """logind with a reboot that does nothing, and more patience than its 5 seconds."""
    override("reboot.target")
    DELAY_CONF.parent.mkdir(exist_ok=True)
    DELAY_CONF.write_text(f"[Login]\nInhibitDelayMaxSec={60 * SLOWNESS:.0f}\n")
    restart_logind()
    yield
    await_that(lambda: not announced(), timeout=60, what="an end of the shutdown")
    DELAY_CONF.unlink()
    restart_logind()
    restore("reboot.target")


def announced() -> bool:
    return run("busctl", "get-property", *LOGIN1, MANAGER, "PreparingForShutdown") == "b true\n"


def inhibitors(runner: Runner) -> list[str]:
    """What this daggyr holds of logind, as `systemd-inhibit --list` has it."""
    answer = json.loads(run("busctl", "--json=short", "call", *LOGIN1, MANAGER, "ListInhibitors"))
    return [f"{what} {mode}" for what, _, _, mode, _, pid in answer["data"][0] if pid == runner.main_pid]


def await_inhibitor(runner: Runner) -> None:
    await_that(lambda: inhibitors(runner) == ["shutdown delay"], what="the inhibitor")


def reboot() -> None:
    run("busctl", "call", *LOGIN1, MANAGER, "Reboot", "b", "false")


def await_drained(runner: Runner, wanted: bool = True) -> None:
    await_that(
        lambda: runner.get("/api/v1/capacity").json()["draining"] is wanted, what=f"draining: {wanted}"
    )


@pytest.fixture
def other_inhibitor() -> Generator[subprocess.Popen[bytes], None, None]:
    """Another program that delays the shutdown, until it is terminated."""
    command = ["systemd-inhibit", "--what=shutdown", "--mode=delay", "sleep", "infinity"]
    with subprocess.Popen(command, start_new_session=True) as process:
        yield process
        process.terminate()


def await_other(process: subprocess.Popen[bytes]) -> None:
    def held() -> bool:
        listed = json.loads(run("busctl", "--json=short", "call", *LOGIN1, MANAGER, "ListInhibitors"))
        return any(entry[5] == process.pid for entry in listed["data"][0])

    await_that(held, what="the other inhibitor")


def test_a_shutdown_waits_for_what_runs_and_lets_nothing_new_in(
    logind: None, start_runner: Callable[..., Runner]
) -> None:
    """Lost: tasks killed that needed a second more, and others begun that had no chance."""
    runner = start_runner({"capacity_overrides": {"cores": 1, "memory_mb": 4096}})
    await_inhibitor(runner)
    running, gate = submit_gated(runner)
    waiting = runner.submit(["echo", "late"])
    reboot()
    await_drained(runner)
    assert announced()
    assert inhibitors(runner) == ["shutdown delay"]  # logind waits for us

    id = task_id()
    refused = [runner.get("/ready"), runner.post("/api/v1/lease", json=LEASE)]
    refused += [runner.post(f"/api/v1/task/{id}", json={"command": ["true"]})]
    refused += [runner.post(f"/api/v1/1/{id}", json={"command": ["true"]})]
    assert [answer.status_code for answer in refused] == [503] * 4
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert runner.get(f"/api/v1/task/{id}").status_code == 404
    await_that(lambda: "draining" in unit_property(runner.unit, "StatusText"), what="the status line")

    gate.open()
    attempt = runner.wait(running)
    assert (attempt["result"], attempt["output"]) == ("success", "done\n")
    # Nothing runs: logind goes on (to its target that does nothing), and then takes its word back.
    await_drained(runner, False)
    assert not announced()
    assert runner.wait(waiting)["output"] == "late\n"
    assert runner.get("/ready").status_code == 200
    await_inhibitor(runner)  # for the next time
    assert "The host is going down" in runner.journal()


def test_what_waits_does_not_delay_a_shutdown(
    logind: None, start_runner: Callable[..., Runner], other_inhibitor: subprocess.Popen[bytes]
) -> None:
    """Lost: minutes at each shutdown of a machine with nothing to do, or with tasks that cannot start."""
    await_other(other_inhibitor)
    idle = start_runner()
    busy = start_runner({"capacity_overrides": {"cores": 1, "memory_mb": 4096}})
    for runner in (idle, busy):
        await_inhibitor(runner)
    running, gate = submit_gated(busy)
    waiting = busy.submit(["true"])
    busy.put("/api/v1/drain", json={"drain": True})
    gate.open()
    busy.wait(running)
    assert busy.attempt(waiting)["state"] == "queued"
    reboot()
    for runner in (idle, busy):
        await_drained(runner)
        await_that(lambda: not inhibitors(runner), what="the inhibitor to be given up")
    assert announced()  # it is the other program that logind still waits for
    other_inhibitor.send_signal(signal.SIGTERM)
    await_drained(idle, False)
    await_inhibitor(idle)
    assert busy.get("/ready").status_code == 503  # an administrator's drain is not for logind to end


def test_a_daggyr_started_during_a_shutdown_knows_of_it(
    logind: None, start_runner: Callable[..., Runner], other_inhibitor: subprocess.Popen[bytes]
) -> None:
    """Lost: a client that activates the socket in the last seconds would have its task begun and killed."""
    await_other(other_inhibitor)
    reboot()
    await_that(announced, what="the announcement")
    runner = start_runner(ROOMY)
    await_drained(runner)
    assert runner.post("/api/v1/task", json={"command": ["true"]}).status_code == 503
    other_inhibitor.send_signal(signal.SIGTERM)
    await_drained(runner, False)
    assert runner.run(["true"])["succeeded"]
    await_inhibitor(runner)


def test_a_logind_that_forgot_its_announcement_keeps_nobody_waiting(
    logind: None, start_runner: Callable[..., Runner]
) -> None:
    """Lost: a machine that stays up but takes no tasks, until somebody restarts daggyr."""
    runner = start_runner(ROOMY)
    await_inhibitor(runner)
    id, gate = submit_gated(runner)
    reboot()
    await_drained(runner)
    restart_logind()
    await_drained(runner, False)
    assert runner.run(["true"])["succeeded"]
    gate.open()
    assert runner.wait(id)["result"] == "success"
    await_inhibitor(runner)


def test_a_restart_of_logind_leaves_the_inhibitor_in_force(
    logind: None, start_runner: Callable[..., Runner]
) -> None:
    """Lost: the delay for the rest of the uptime, to an update of systemd."""
    runner = start_runner(ROOMY)
    await_inhibitor(runner)
    restart_logind()
    await_inhibitor(runner)
    running, gate = submit_gated(runner)
    reboot()
    await_drained(runner)
    assert inhibitors(runner) == ["shutdown delay"]
    gate.open()
    assert runner.wait(running)["result"] == "success"
    await_drained(runner, False)


def test_tasks_that_take_too_long_end_as_a_shutdown(
    logind: None, start_runner: Callable[..., Runner]
) -> None:
    """Lost: the reason. A task that the end of the host cut off would look like one that failed."""
    runner = start_runner(ROOMY)
    await_inhibitor(runner)
    id = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(id)["start_time"], what="the start")
    follower = subprocess.Popen(
        ["curl", "--silent", f"{runner.url}/api/v1/task/{id}?wait=60"], stdout=subprocess.PIPE
    )
    mine = "daggyr_http_connections 2\n"  # that one's and ours
    await_that(lambda: mine in runner.get("/metrics").text, what="the waiting client")
    reboot()
    await_drained(runner)
    run("systemctl", "stop", runner.unit)  # as systemd does once logind waits no longer
    told, _ = follower.communicate(timeout=60 * SLOWNESS)
    assert json.loads(told)["result"] == "shutdown"
    # With the process its inhibitor goes too.
    await_that(lambda: not announced(), what="logind to go on")


@pytest.fixture(params=["stopping", "maintenance"])
def system_state(request: pytest.FixtureRequest) -> Generator[str, None, None]:
    """Has systemd be in such a state, by a target that says so and stops nothing."""
    target = {"stopping": "shutdown.target", "maintenance": "rescue.target"}[request.param]
    override(target)
    yield request.param
    restore(target)
    assert run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded")


def test_no_lease_on_a_host_that_has_no_future(
    start_runner: Callable[..., Runner], system_state: str
) -> None:
    """Lost: a queue would count on a machine that is about to go."""
    runner = start_runner(ROOMY)
    target = {"stopping": "shutdown.target", "maintenance": "rescue.target"}[system_state]
    granted = runner.post("/api/v1/lease", json=LEASE)
    assert granted.status_code == 201
    run("systemctl", "start", "--job-mode=ignore-dependencies", target)

    def refused() -> bool:
        answer = runner.post("/api/v1/lease", json=LEASE | {"queue": "other.example:1"})
        assert answer.status_code in (409, 503)
        return answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0

    await_that(refused, what="no lease")
    assert runner.get("/api/v1/capacity").json()["facts"]["system_state"] == system_state
    assert runner.post("/api/v1/lease", json=LEASE).status_code == 503  # not its holder either, anew
    lease = granted.json()["lease_id"]
    assert runner.put(f"/api/v1/lease/{lease}").status_code == 200  # but what is granted stays
    assert runner.delete(f"/api/v1/lease/{lease}").status_code == 204

    run("systemctl", "stop", "--job-mode=ignore-dependencies", target)
    await_that(
        lambda: runner.post("/api/v1/lease", json=LEASE).status_code == 201, what="a lease as before"
    )
