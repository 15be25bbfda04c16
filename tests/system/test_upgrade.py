# SPDX-License-Identifier: LGPL-2.1-or-later
"""Upgrade in place: another program takes daggyr's place in its process, and no task, client or byte is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

import openapi
from bedlib import (
    ROOMY,
    SLOWNESS,
    Queue,
    Runner,
    ShellRunner,
    await_nothing_left,
    await_that,
    cgroup_procs,
    processes_of,
    program_in,
    run,
    task_id,
    timestamp,
    unit_property,
)
from test_exec_hangs import held_up
from test_tls import Authority, speak_https, tls_config
from upgradelib import Client, Follower, Upgradable, children, comm, fifo, let_go, output

Starter = Callable[..., Upgradable]


@pytest.fixture
def runner(start_upgradable: Starter) -> Upgradable:
    return start_upgradable()


def unit_of_broker(runner: Runner) -> str:
    pattern = f"daggyr-broker@*-{runner.main_pid}-*.service"
    listed = run("systemctl", "list-units", "--plain", "--no-legend", "--state=running", "--", pattern).split()
    return listed[0]


@contextmanager
def broker_that_stands_still(runner: Runner) -> Iterator[Callable[[], None]]:
    """Until the function that it gives is called, or the block ends."""
    runner.run(["true"])  # so that there is one
    pid = int(unit_property(unit_of_broker(runner), "MainPID"))
    os.kill(pid, signal.SIGSTOP)

    def go_on() -> None:
        if comm(pid):  # one whose connection was closed ends by itself
            os.kill(pid, signal.SIGCONT)

    try:
        yield go_on
    finally:
        go_on()


# ── each step of a task's life ──


def test_a_waiting_task_keeps_its_place(start_upgradable: Starter) -> None:
    runner = start_upgradable({"capacity_overrides": {"cores": 4, "memory_mb": 4096, "slot": 1}})
    slot = {"resources": {"cores": 0.1, "memory_mb": 32, "slot": 1}}
    first = runner.submit(["sh", "-c", "read line <$0", fifo(runner)], **slot)
    await_that(lambda: runner.attempt(first)["state"] == "running", what="the first to run")
    waiting = [runner.submit(["sh", "-c", "date +%s.%N"], **slot) for _ in range(5)]
    before = runner.get("/api/v1/capacity").json()
    runner.upgrade()
    after = runner.get("/api/v1/capacity").json()
    assert after["revision"] == before["revision"] and after["free"] == before["free"], (before, after)
    assert [runner.attempt(id)["state"] for id in waiting] == ["queued"] * 5
    let_go(runner)
    starts = [float(runner.wait(id)["output"]) for id in waiting]
    assert starts == sorted(starts)
    await_nothing_left(first, *waiting)


def test_a_task_whose_scope_was_asked_for_gets_it(runner: Upgradable) -> None:
    with broker_that_stands_still(runner) as go_on:
        id = runner.submit(["echo", "done"])
        await_that(lambda: leaders_waiting(runner) == 1, what="its leader")
        runner.upgrade()
        assert runner.attempt(id)["state"] in ("queued", "running")
        go_on()
        attempt = runner.wait(id)
    assert attempt["state"] == "completed" and attempt["output"] == "done\n", attempt
    await_nothing_left(id)


def leaders_waiting(runner: Runner) -> int:
    """Leaders that are still where the spawner forked them."""
    return len(cgroup_procs(runner.spawner_unit)) - 1


def test_a_parked_leader_waits_on_for_a_broker(start_upgradable: Starter) -> None:
    link = Path("/run", task_id("daggyr-test-broker"))
    runner = start_upgradable(properties={"Environment": f"DAGGYR_BROKER={link}"})
    id = runner.submit(["echo", "done"])
    await_that(lambda: leaders_waiting(runner) == 1, what="its leader")
    runner.upgrade()
    assert leaders_waiting(runner) == 1
    link.symlink_to("/run/daggyr/broker.sock")
    attempt = runner.wait(id)
    link.unlink()
    assert attempt["state"] == "completed" and attempt["output"] == "done\n", attempt
    await_nothing_left(id)


def test_a_parked_task_that_was_stopped_ends(runner: Upgradable) -> None:
    with broker_that_stands_still(runner) as go_on:
        id = runner.submit(["echo", "done"])
        await_that(lambda: leaders_waiting(runner) == 1, what="its leader")
        assert runner.delete(f"/api/v1/task/{id}").status_code == 202
        runner.upgrade()
        go_on()
        attempt = runner.wait(id)
    assert attempt["result"] == "stopped" and attempt["output"] == "", attempt
    await_nothing_left(id)


def test_a_command_whose_execution_hangs_goes_on_when_it_can(runner: Upgradable) -> None:
    with held_up("echo") as (program, allow):
        id = runner.submit([program, "done"])
        await_that(lambda: runner.attempt(id)["state"] == "running", what="it to be released")
        runner.upgrade()
        assert runner.attempt(id)["start_time"] is None
        allow()
        attempt = runner.wait(id)
    assert attempt["state"] == "completed" and attempt["output"] == "done\n", attempt
    await_nothing_left(id)


def test_a_running_task_goes_on_in_the_same_process_and_keeps_its_output(runner: Upgradable) -> None:
    pid = runner.main_pid
    facts = runner.get("/api/v1/capacity").json()["facts"]
    id = runner.submit(["sh", "-c", "echo before; read line <$0; echo after; exit 3", fifo(runner)])
    await_that(lambda: b"before\n" == output(runner, id), what="the first line")
    processes = processes_of(id)
    runner.upgrade()
    assert runner.main_pid == pid
    assert processes_of(id) == processes
    assert runner.get("/api/v1/capacity").json()["facts"]["instance_id"] == facts["instance_id"]
    let_go(runner)
    attempt = runner.wait(id)
    assert attempt["state"] == "errored" and attempt["exit_code"] == 3, attempt
    assert output(runner, id) == b"before\nafter\n"
    await_nothing_left(id)


def test_devices_stay_with_their_task(start_upgradable: Starter) -> None:
    """Lost: two tasks would have one device."""
    devices = {"gpu": {"items": [{"id": "a"}, {"id": "b"}]}}
    runner = start_upgradable({"devices": devices})
    one = {"resources": {"cores": 0.1, "memory_mb": 32, "gpu": 1}}
    first = runner.submit(["sleep", "infinity"], **one)
    await_that(lambda: runner.attempt(first)["start_time"], what="it to run")
    runner.upgrade()
    second = runner.submit(["sleep", "infinity"], **one)
    await_that(lambda: runner.attempt(second)["start_time"], what="it to run")
    third = runner.submit(["sh", "-c", "echo $DAGGYR_DEVICES_GPU"], **one)
    runner.upgrade()
    assert [runner.attempt(id).get("devices") for id in (first, second)] == [{"gpu": ["a"]}, {"gpu": ["b"]}]
    assert runner.attempt(third)["state"] == "queued"
    runner.delete(f"/api/v1/task/{first}")
    attempt = runner.wait(third)
    assert attempt["output"] == "a\n" and attempt["devices"] == {"gpu": ["a"]}, attempt
    runner.upgrade()
    assert runner.attempt(first)["devices"] == runner.attempt(third)["devices"] == {"gpu": ["a"]}
    runner.delete(f"/api/v1/task/{second}")
    runner.wait(second)
    assert runner.get("/api/v1/capacity").json()["free"]["gpu"] == 2


def test_a_time_limit_counts_on(runner: Upgradable) -> None:
    began = time.monotonic()
    id = runner.submit(["sleep", "infinity"], timeout=4)
    runner.upgrade()
    runner.upgrade()
    attempt = runner.wait(id)
    assert attempt["result"] == "timeout", attempt
    assert 3.9 < time.monotonic() - began < 4 + 4 * SLOWNESS
    await_nothing_left(id)


def test_what_was_written_while_daggyr_stood_still_is_all_there(runner: Upgradable) -> None:
    """The task has written and ended, of which the earlier program has heard nothing."""
    id = runner.submit(["sh", "-c", "echo 0; read line <$0; seq 10000; seq 10000 >&2", fifo(runner)])
    await_that(lambda: output(runner, id) == b"0\n", what="it to run")
    pid, before = runner.main_pid, program_in(runner.main_pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        let_go(runner)
        await_that(lambda: not processes_of(id), what="it to end")
        os.kill(pid, signal.SIGUSR2)
    finally:
        os.kill(pid, signal.SIGCONT)
    runner.await_upgraded(before)
    assert runner.wait(id)["state"] == "completed"
    expected = "".join(f"{i}\n" for i in range(1, 10001)).encode()
    assert output(runner, id) == b"0\n" + expected
    assert runner.get(f"/api/v1/task/{id}/output?stream=stderr").content == expected
    await_nothing_left(id)


def test_leftovers_are_stopped_after_their_grace(runner: Upgradable) -> None:
    grace = int(3 * SLOWNESS)
    began = time.monotonic()
    id = runner.submit(["sh", "-c", "trap '' TERM; sleep infinity & exit 7"], grace=grace)
    await_that(lambda: "left processes behind" in " ".join(runner.attempt(id)["executor"]), what="the main process to end")
    runner.upgrade()
    assert runner.attempt(id)["state"] == "running" or time.monotonic() - began > grace
    attempt = runner.wait(id)
    assert attempt["exit_code"] == 7 and time.monotonic() - began > grace - 0.1, attempt
    await_nothing_left(id)


def test_a_task_that_is_being_stopped_is_killed_after_its_grace(runner: Upgradable) -> None:
    deaf, grace = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"], int(3 * SLOWNESS)
    id = runner.submit(deaf, grace=grace)
    await_that(lambda: output(runner, id) == b"deaf\n", what="it to be deaf")
    began = time.monotonic()
    assert runner.delete(f"/api/v1/task/{id}").status_code == 202
    runner.upgrade()
    assert runner.attempt(id)["state"] == "running" or time.monotonic() - began > grace
    assert runner.wait(id)["result"] == "stopped"
    assert time.monotonic() - began > grace - 0.1
    await_nothing_left(id)


def test_a_scope_that_systemd_is_asked_to_clear_is_cleared(runner: Upgradable) -> None:
    """Its leader was killed, and the broker has not answered yet."""
    id = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(id)["start_time"], what="it to run")
    with broker_that_stands_still(runner) as go_on:
        id2 = runner.submit(["true"])  # so that what follows is asked behind a call that is under way
        sleeper = processes_of(id)[0]
        leader = int(Path(f"/proc/{sleeper}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(leader, signal.SIGKILL)
        await_that(lambda: comm(leader) == "", what="the leader's end")
        runner.upgrade()
        go_on()
        attempt = runner.wait(id)
        assert runner.wait(id2)["state"] == "completed"
    assert attempt["state"] == "errored" and attempt["result"] == "signal", attempt
    await_nothing_left(id, id2)


@pytest.mark.plain
def test_a_result_stays_for_as_long_as_it_would_have(start_upgradable: Starter) -> None:
    ttl = int(10 * SLOWNESS)
    runner = start_upgradable({"result_ttl": ttl})
    big = runner.run(["sh", "-c", "seq 100000"])["task_id"]
    id = runner.submit(["echo", "done"])
    told = runner.wait(id)
    runner.upgrade()
    assert runner.attempt(id) == told
    assert len(output(runner, big)) == 588895
    await_that(lambda: runner.get(f"/api/v1/task/{id}").status_code == 404, timeout=ttl, what="it to be forgotten")
    assert ttl - 0.1 < time.time() - timestamp(told["stop_time"]) < 2 * ttl


def test_the_lease_stays_with_its_holder_and_expires_in_time(runner: Upgradable) -> None:
    asked = {"queue": "q:1", "version": "1", "ttl": 5}
    lease = runner.post("/api/v1/lease", json=asked).json()
    runner.upgrade()
    assert runner.post("/api/v1/lease", json=asked | {"queue": "other:1"}).status_code in (409, 423)
    renewed = time.monotonic()
    again = runner.put(f"/api/v1/lease/{lease['lease_id']}")
    assert again.status_code == 200 and again.json()["epoch"] == lease["epoch"], again.text
    runner.upgrade()
    await_that(lambda: runner.get("/api/v1/lease").json()["lease"] is None, timeout=10, what="its end")
    assert 4.9 < time.monotonic() - renewed < 5 + 3 * SLOWNESS
    await_that(lambda: "Lease 1 of queue q:1 expired" in runner.journal(), what="a word of it in the journal")


# ── clients ──


def test_who_waits_for_a_task_hears_how_it_is(runner: Upgradable) -> None:
    id = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(id)["state"] == "running", what="it to run")
    with ThreadPoolExecutor(2) as pool:
        path = f"{runner.url}/api/v1/task/{id}?wait=60"
        command = {"command": ["sleep", "infinity"]}
        waiting = pool.submit(requests.get, path, timeout=60 * SLOWNESS)
        daggy = pool.submit(requests.post, f"{runner.url}/api/v1/1/w", json=command, timeout=60 * SLOWNESS)
        await_that(lambda: runner.get("/api/v1/task/1:w").status_code == 200, what="the task of the other protocol")
        time_for_both(runner, id)
        runner.upgrade()
        openapi.check(waiting.result())
        openapi.check(daggy.result())
    assert waiting.result().json()["state"] == "running"
    assert daggy.result().status_code == 503 and daggy.result().headers["Retry-After"] == "1"
    for each in (id, "1:w"):
        runner.delete(f"/api/v1/task/{each}")
        runner.wait(each)


def time_for_both(runner: Runner, id: str) -> None:
    """Both requests are there once the server has as many connections."""
    await_that(lambda: metric(runner, "daggyr_http_connections") >= 3, what="both to wait")
    await_that(lambda: runner.attempt(id)["state"] == "running", what="it to run")


def metric(runner: Runner, name: str) -> float:
    for line in runner.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def test_counters_do_not_go_back(runner: Upgradable) -> None:
    for _ in range(3):
        runner.run(["true"])
    before = counters(runner)
    runner.upgrade()
    after = counters(runner)
    assert {name: value for name, value in before.items() if after.get(name, -1) < value} == {}


def counters(runner: Runner) -> dict[str, float]:
    found = {}
    for line in runner.get("/metrics").text.splitlines():
        name, _, value = line.rpartition(" ")
        if line.startswith("#"):
            continue
        if "_total" in name or "_bucket" in name or "_count" in name or "_sum" in name:
            found[name] = float(value)
    return found


def test_a_queue_notices_nothing(runner: Upgradable) -> None:
    """Lost: tasks that a queue has sent, or that it would run them once more."""
    mark = runner.folder / "mark"
    mark.touch()
    mark.chmod(0o666)
    with Queue({"w": runner}) as queue:
        queue.await_leases("w")
        script = 'echo started >>"$0"; read line <"$1"; echo done'
        id = queue.submit(["sh", "-c", script, str(mark), fifo(runner)])
        await_that(lambda: mark.read_text() == "started\n", what="it to run")
        before = program_in(runner.main_pid)
        os.kill(runner.main_pid, signal.SIGUSR2)
        runner.await_upgraded(before)
        let_go(runner)
        attempt = queue.wait(id)
    assert attempt["state"] == "completed" and attempt["output"] == "done\n", attempt
    assert mark.read_text() == "started\n"


def is_ready(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(path))
        client.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.1 200")


def test_clients_of_a_unix_socket_are_not_refused() -> None:
    """A socket of systemd's, in whose backlog they wait."""
    name = task_id("daggyr-test-socket")
    path = Path("/run", f"{name}.sock")
    unit = Path("/run/systemd/system", f"{name}.socket")
    unit.write_text(f"[Socket]\nListenStream={path}\nService=")
    runner = Upgradable(properties={"Sockets": unit.name})
    unit.write_text(f"[Socket]\nListenStream={path}\nService={runner.unit}\n")
    refused: list[str] = []
    over = threading.Event()

    def knock() -> None:
        while not over.is_set():
            try:
                if not is_ready(path):
                    refused.append("no answer")
            except OSError as error:
                refused.append(str(error))

    try:
        runner.config_file.parent.mkdir(mode=0o755, exist_ok=True)
        runner.config_file.write_text(json.dumps(runner.config))
        runner._unit_file.write_text(runner._unit_text())
        run("systemctl", "start", unit.name)
        run("systemctl", "start", runner.unit)
        knocking = threading.Thread(target=knock, daemon=True)
        knocking.start()
        for _ in range(3):
            before = program_in(runner.main_pid)
            run("systemctl", "kill", "--signal=SIGUSR2", "--kill-whom=main", runner.unit)
            await_that(lambda: program_in(runner.main_pid) != before, timeout=20, what="the upgrade")
            # While the new program starts, it refuses the next one.
            await_that(lambda: is_ready(path), what="the new program to be ready")
        over.set()
        knocking.join(60)
        assert runner.state == "active"
        assert refused == []
    finally:
        over.set()
        run("systemctl", "stop", unit.name, check=False)
        runner.discard()
        unit.unlink()
        path.unlink(missing_ok=True)


def test_daggyctl_has_it_upgraded_or_says_why_not(busy: Upgradable) -> None:
    before = program_in(busy.main_pid)
    run("daggyctl", "--host", busy.url, "upgrade")
    busy.await_upgraded(before)
    busy.program.unlink()
    done = subprocess.run(["daggyctl", "--host", busy.url, "upgrade"], text=True, capture_output=True, timeout=60)
    assert done.returncode != 0 and "No such file or directory" in done.stderr, done


def test_a_daggyr_from_a_shell_is_upgraded_by_a_signal() -> None:
    with ShellRunner(ROOMY, daemonize=True) as runner:
        id = runner.submit(["sh", "-c", "echo here; sleep infinity"])
        await_that(lambda: output(runner, id) == b"here\n", what="it to run")
        os.kill(runner.main_pid, signal.SIGUSR2)
        await_that(lambda: upgraded(runner.main_pid), what="the upgrade")
        await_that(lambda: answers(runner), what="an answer")
        assert runner.attempt(id)["state"] == "running"
        assert runner.run(["echo", "new"])["output"] == "new\n"
        runner.delete(f"/api/v1/task/{id}")
        assert runner.wait(id)["result"] == "stopped"
        await_nothing_left(id)


def upgraded(pid: int) -> bool:
    """The state that was handed over is in the environment that the program was executed with."""
    return b"DAGGYR_STATE_FD=" in Path(f"/proc/{pid}/environ").read_bytes()


def answers(runner: Runner) -> bool:
    try:
        return runner.get("/ready").status_code == 200
    except requests.ConnectionError:
        return False


def test_who_follows_an_output_gets_all_of_it_in_the_end(runner: Upgradable) -> None:
    """Lost: what a task writes after an upgrade, to somebody who watches it."""
    id = runner.submit(["sh", "-c", "echo before; read line <$0; echo after", fifo(runner)])
    follower = Follower(runner, id)
    command = ["daggyctl", "--host", runner.url, "output", "--follow", id]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as watching:
        await_that(lambda: follower.read == b"before\n", what="the first line")
        assert watching.stdout and watching.stdout.readline() == b"before\n"
        runner.upgrade()
        await_that(lambda: follower.n_ends == 1, what="the end of the stream, in order")
        let_go(runner)
        follower.finish()
        assert follower.read == b"before\nafter\n"
        assert watching.communicate(timeout=60 * SLOWNESS)[0] == b"after\n"
        assert watching.returncode == 0


class Knocker(Client):
    """Makes one connection after the other."""

    def __init__(self, runner: Runner, authority: Authority) -> None:
        self.n_answers, self.authority = 0, authority
        super().__init__(runner)

    def step(self) -> bool:
        assert self.ask("GET", "/ready", verify=str(self.authority.cert)).status_code == 200
        self.n_answers += 1
        return True


def served_certificate(runner: Runner, authority: Authority) -> str:
    return ssl.get_server_certificate(("127.0.0.1", runner.config["port"]), ca_certs=str(authority.cert))


def test_https_goes_on_with_the_certificate_that_is_there_now(start_upgradable: Starter) -> None:
    """Lost: clients of HTTPS; or all tasks, for the sake of a new certificate."""
    ours = Authority("ours")
    cert, key = ours.give("server")
    runner = start_upgradable(tls_config((cert, key)))
    speak_https(runner, ours)
    id = runner.submit(["sh", "-c", "read line <$0; echo done", fifo(runner)])
    knocker = Knocker(runner, ours)
    runner.upgrade()
    before = served_certificate(runner, ours)
    shutil.copy(ours.give("other")[0], cert)
    shutil.copy(ours.folder / "other.key", key)
    assert served_certificate(runner, ours) == before
    runner.upgrade()
    assert served_certificate(runner, ours) == cert.read_text() != before
    key.unlink()
    runner.refuses("it cannot listen with its configuration")
    let_go(runner)
    assert runner.wait(id)["output"] == "done\n"
    knocker.finish()
    assert knocker.n_answers > 1


# ── versions ──


def own_version() -> str:
    return run("/usr/bin/daggyr", "--version").split()[1]


def install_other_version(runner: Upgradable) -> str:
    """The same program, but for what it says of itself and to the spawner."""
    own = own_version()
    other = own[:-1] + ("8" if own.endswith("9") else "9")
    pattern = rb"(?<![0-9.])" + re.escape(own).encode() + rb"(?![0-9.])"
    program, n = re.subn(pattern, other.encode(), Path("/usr/bin/daggyr").read_bytes())
    assert n > 0
    new = runner.folder / "other"
    new.write_bytes(program)
    new.chmod(0o755)
    runner.install(new)
    return other


def test_another_version_takes_over_and_gives_back(runner: Upgradable) -> None:
    """Lost: the tasks of a host, at each new version."""
    id = runner.submit(["sh", "-c", "echo before; read line <$0; echo after", fifo(runner)])
    await_that(lambda: output(runner, id) == b"before\n", what="the first line")
    own, other = own_version(), install_other_version(runner)
    runner.upgrade()
    assert f"Upgraded in place from version {own} to {other}: 1 tasks go on" in runner.journal()
    let_go(runner)
    attempt = runner.wait(id)
    assert (attempt["result"], attempt["output"]) == ("success", "before\nafter\n"), attempt
    runner.install(Path("/usr/bin/daggyr"))
    runner.upgrade()
    assert f"Upgraded in place from version {other} to {own}: 0 tasks go on" in runner.journal()
    assert runner.attempt(id) == attempt
    assert runner.run(["echo", "new"])["output"] == "new\n"  # by a spawner that was asked for anew


def test_another_version_waits_for_what_the_spawner_of_before_has_begun(runner: Upgradable) -> None:
    """Lost: a task that is being started, whose scope the broker grants to a spawner that lives."""
    with broker_that_stands_still(runner) as go_on:
        id = runner.submit(["echo", "done"])
        await_that(lambda: leaders_waiting(runner) == 1, what="its leader")
        install_other_version(runner)
        runner.refuses("busy: a task is being started by a spawner of another version")
        go_on()
        assert runner.wait(id)["output"] == "done\n"
    runner.upgrade()
    await_nothing_left(id)


def test_a_broker_of_another_version_is_replaced(runner: Upgradable) -> None:
    """Lost: a task whose scope it was asked for; or it would be there twice."""
    with broker_that_stands_still(runner) as go_on:
        id = runner.submit(["echo", "done"])
        await_that(lambda: leaders_waiting(runner) == 1, what="its leader")
        runner.install_with_state(b"DGGBKR01", b"DGGBKR00")
        runner.upgrade()
        attempt = runner.wait(id)
        go_on()
    assert attempt["state"] == "completed" and attempt["output"] == "done\n", attempt
    await_nothing_left(id)
    assert runner.run(["echo", "more"])["output"] == "more\n"


# ── refusals ──


@pytest.fixture
def busy(runner: Upgradable) -> Iterator[Upgradable]:
    """A runner with a task, which is there as before at the end."""
    id = runner.submit(["sh", "-c", "read line <$0; echo done", fifo(runner)])
    await_that(lambda: runner.attempt(id)["start_time"], what="it to run")
    yield runner
    let_go(runner)
    assert runner.wait(id)["output"] == "done\n"
    assert runner.run(["echo", "more"])["output"] == "more\n"


def test_a_program_that_is_missing_is_refused(busy: Upgradable) -> None:
    busy.program.unlink()
    busy.refuses("No such file or directory")


def test_a_program_that_crashes_is_refused(busy: Upgradable) -> None:
    busy.install_text("#!/bin/sh\nkill -SEGV $$\n")
    busy.refuses("it was ended by signal 11")


def test_a_program_that_is_another_is_refused(busy: Upgradable) -> None:
    busy.install(Path("/bin/true"))
    busy.refuses("it exited with status 0")


def test_a_program_that_knows_no_upgrades_is_refused(busy: Upgradable) -> None:
    busy.install_text("#!/bin/sh\necho \"daggyr: unrecognized option '--check-state'\" >&2\nexit 1\n")
    busy.refuses("unrecognized option '--check-state'")


def test_a_program_that_hangs_is_refused_and_holds_nobody_up(busy: Upgradable) -> None:
    busy.install_text("#!/bin/sh\nexec sleep infinity\n")
    hangs(busy)


def test_a_program_whose_execution_hangs_is_refused_and_holds_nobody_up(busy: Upgradable) -> None:
    """As that of one on a file server that does not answer."""
    with held_up("daggyr", "/usr/local/lib") as (program, _):
        busy.program.unlink()
        busy.program.symlink_to(program)
        hangs(busy)


def hangs(runner: Upgradable) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(runner.refuses, "gave no answer in time")
        await_that(lambda: children(runner.main_pid), what="the program to be asked")
        began = time.monotonic()
        assert requests.get(runner.url + "/ready", timeout=60).status_code == 200
        second = requests.post(runner.url + "/api/v1/upgrade", timeout=60)
        assert second.status_code == 409 and "under way" in second.text
        assert time.monotonic() - began < 3 * SLOWNESS
        asked.result()
    await_that(lambda: not children(runner.main_pid), what="the end of the program that was asked")


@pytest.mark.parametrize("version", [b"0", b"2"])
def test_a_state_of_another_version_is_refused(busy: Upgradable, version: bytes) -> None:
    busy.install_with_state(b"runner state 1\n", b"runner state " + version + b"\n")
    busy.refuses(f"the state is of version {version.decode()}, and this program knows version 1")


def test_a_state_that_lacks_something_or_knows_more_is_refused(busy: Upgradable) -> None:
    busy.install_with_state(b"\x0dtold_revision", b"\x0bslice_cpus\0\0\0")
    busy.refuses('the state of a runner has "slice_cpus?"')
    busy.install_with_state(b"\x05scope\x01", b"\x05ccope\x01")
    busy.refuses('the state of a task has "ccope", which is not known here')


def test_a_configuration_that_the_new_program_cannot_read_is_refused(busy: Upgradable) -> None:
    good = busy.config_file.read_text()
    busy.config_file.write_text('{"port": "none"}')
    busy.refuses("its configuration is not valid")
    busy.config_file.write_text(good)


def test_a_refused_upgrade_by_signal_is_told_in_the_log(busy: Upgradable) -> None:
    busy.program.unlink()
    os.kill(busy.main_pid, signal.SIGUSR2)
    await_that(lambda: "it cannot be executed: No such file or directory" in busy.journal(), what="the log")
