# SPDX-License-Identifier: LGPL-2.1-or-later
"""The scope broker: what the daemon can have of it, and what nobody can, who has taken the daemon over or not."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bedlib import (
    ROOMY,
    SLOWNESS,
    Runner,
    await_nothing_left,
    await_that,
    load,
    open_fds,
    run,
    scope_of,
    task_id,
    unit_exists,
    unit_property,
)
from brokerlib import taken_over

SYSTEMD = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
SERVICE = ["1", "ExecStart", "a(sasb)", "1", "/bin/true", "1", "/bin/true", "false", "0"]


@pytest.fixture(scope="module", autouse=True)
def sockets() -> None:
    run("systemctl", "start", "daggyr-broker.socket", "daggyr-spawner.socket")


def broker_of(pid: int) -> str:
    """The broker's unit for the connection of process PID, which systemd names after it."""
    pattern = f"daggyr-broker@*-{pid}-*.service"
    return run("systemctl", "list-units", "--plain", "--no-legend", "--", pattern).split()[0]


def warnings_about(peer: str) -> list[str]:
    run("journalctl", "--sync")
    lines = run("journalctl", "--quiet", "--no-pager", "--output=cat", "--unit=daggyr-broker@*").splitlines()
    return [line for line in lines if peer in line]


@pytest.mark.parametrize(
    "call",
    [
        ["StartTransientUnit", "ssa(sv)a(sa(sv))", "{id}.service", "fail", *SERVICE],
        ["StartTransientUnit", "ssa(sv)a(sa(sv))", "{scope}", "fail", "1", "PIDs", "au", "1", "{pid}", "0"],
        ["StopUnit", "ss", "{victim}", "fail"],
        ["KillUnit", "ssi", "{victim}", "all", "9"],
        ["SetUnitProperties", "sba(sv)", "{victim}", "true", "1", "TasksMax", "t", "99"],
        ["AttachProcessesToUnit", "ssau", "{victim}", "", "1", "{pid}"],
    ],
    ids=lambda call: f"{call[0]}-{call[2]}",
)
def test_the_daemons_account_has_no_say_at_systemd(call: list[str]) -> None:
    """Lost: the host, to whoever takes the daemon over."""
    victim = f"daggyr-victim-{task_id()}.service"
    run("systemd-run", "--quiet", "--collect", "--property=Delegate=yes", f"--unit={victim}", "sleep", "60")
    id = task_id()
    with subprocess.Popen(["sleep", "60"]) as bait:
        values = {"id": id, "scope": scope_of(id), "victim": victim, "pid": bait.pid}
        arguments = [argument.format(**values) for argument in call]
        command = ["setpriv", "--reuid=daggyr", "--regid=daggyr", "--clear-groups", "busctl", "call"]
        done = subprocess.run([*command, *SYSTEMD, *arguments], text=True, capture_output=True, check=False)
        bait.kill()
    assert done.returncode != 0
    assert re.search("Access denied|Interactive authentication required|Permission denied", done.stderr), done.stderr
    assert unit_property(victim, "ActiveState") == "active"
    run("systemctl", "stop", victim)


def test_polkit_grants_the_daemons_account_nothing_of_systemds() -> None:
    """Lost: what the broker is for."""
    with subprocess.Popen(["setpriv", "--reuid=daggyr", "--regid=daggyr", "--clear-groups", "sleep", "60"]) as sleeper:
        await_that(lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n")
        for action in ("systemd1.manage-units", "systemd1.manage-unit-files", "systemd1.reload-daemon",
                       "systemd1.set-environment", "login1.power-off"):  # fmt: skip
            command = ["pkcheck", "--action-id", f"org.freedesktop.{action}", "--process", str(sleeper.pid)]
            assert subprocess.run(command, capture_output=True, check=False).returncode != 0, action
        sleeper.kill()


def test_a_leader_comes_into_a_scope_of_daggyrs_making() -> None:
    """Lost: all tasks; or what a scope must have, because the daemon could leave it out."""
    id = task_id()
    said = taken_over(
        """
leader = Leader(UNIT)
connection = broker()
said = [ask(connection, start(ID, call_id=7, properties=[number(0, 50)]), leader.pidfd), unit_of(leader.pid)]
show = "Slice,BindsTo,CPUQuotaPerSecUSec,MemoryMax,TasksMax,CPUWeight,Description".split(",")
said.append({name: os.popen(f"systemctl show --value -p {name} '{UNIT}'").read().strip() for name in show})
said.append(unit_of(os.getpid()))
said.append(ask(connection, stop(UNIT, call_id=8)))
""",
        ID=id,
        UNIT=scope_of(id),
    )
    assert said[0] == [7, 0, ""]
    assert said[1] == scope_of(id)
    assert said[2] == {
        "Slice": "daggyr.slice",
        "BindsTo": said[3],
        "CPUQuotaPerSecUSec": "1s",
        "MemoryMax": str(64 << 20),
        "TasksMax": "10",
        "CPUWeight": "50",
        "Description": f"daggyr task {id}",
    }
    assert said[4] == [8, 0, ""]
    await_nothing_left(id)


def test_a_leader_comes_into_one_scope_only() -> None:
    """Lost: the limits of a task, whose leader could be moved out of them."""
    first, second = task_id(), task_id()
    said = taken_over(
        """
leader = Leader(UNIT)
connection = broker()
send(connection, start(FIRST, call_id=1), leader.pidfd)
send(connection, start(SECOND, call_id=2), leader.pidfd)
said = sorted([receive(connection), receive(connection)])
said.append(ask(connection, start(SECOND, call_id=3), leader.pidfd))
said.append(unit_of(leader.pid))
send(connection, kill(UNIT))
""",
        FIRST=first,
        SECOND=second,
        UNIT=scope_of(first),
    )
    assert said[0] == [1, 0, ""]
    assert said[1][:2] == [2, "EPERM"]
    assert said[2][:2] == [3, "EPERM"]
    assert said[3] == scope_of(first)
    await_nothing_left(first, second)


def test_what_is_no_leader_stays_where_it_is() -> None:
    """Lost: any process of the host, which a scope would take out of its unit, limit and end."""
    id = task_id()
    with subprocess.Popen(["sleep", "300"]) as of_root, subprocess.Popen(
        ["setpriv", "--reuid=games", "--regid=games", "--clear-groups", "sleep", "300"]
    ) as of_others:
        said = taken_over(
            """
import subprocess
connection = broker()
child = subprocess.Popen(["sleep", "300"])
leader = Leader(UNIT)
spawner = int(open(f"/proc/{leader.pid}/stat").read().rsplit(")", 1)[1].split()[1])
dead = subprocess.Popen(["true"])
dead_fd = os.pidfd_open(dead.pid)
dead.wait()
victims = {"init": 1, "root's": OF_ROOT, "another's": OF_OTHERS, "itself": os.getpid(), "its child": child.pid,
    "the spawner": spawner}
before = {name: unit_of(pid) for name, pid in victims.items()}
said = {name: ask(connection, start(ID), os.pidfd_open(pid))[1] for name, pid in victims.items()}
said["dead"] = ask(connection, start(ID), dead_fd)[1]
said["a file"] = ask(connection, start(ID), os.open("/dev/null", os.O_RDONLY))[1]
said["nothing"] = ask(connection, start(ID))[1]
said["two"] = ask(connection, start(ID), leader.pidfd, leader.pidfd)[1]
said["with a stop"] = ask(connection, stop(UNIT), leader.pidfd)[1]
said["moved"] = [name for name, pid in victims.items() if unit_of(pid) != before[name]]
""",
            ID=id,
            UNIT=scope_of(id),
            OF_ROOT=of_root.pid,
            OF_OTHERS=of_others.pid,
        )
        of_root.kill()
        of_others.kill()
    assert said.pop("moved") == []
    assert set(said.values()) == {"EPERM"}, said
    assert not unit_exists(scope_of(id))


def test_orders_for_what_no_task_may_have_are_refused() -> None:
    """Lost: the narrowness of the one right that the daemon has."""
    said = taken_over(
        r"""
connection = broker()
leader = Leader("daggyr-task-x.scope")
orders = {}
for id in ("", "a/b", "../x", "a b", "a\nb", "a\x01", "a\\x2d", "é", "a" * 40000):
    orders[f"id {id[:10]!r}"] = start(id)
for unit in ("ssh.service", "init.scope", "daggyr.service", "daggyr.slice", "daggyr-task-x.service", "x.scope", "daggyr-task-.scope",
             "daggyr-task-../x.scope", "daggyr-task-a/b.scope", "daggyr-task-a\n.scope", "daggyr-task-\\x2.scope",
             "daggyr-task-" + "a" * 300 + ".scope", "daggyr-task-*.scope", ""):
    orders[f"stop {unit[:30]!r}"] = stop(unit)
for name, value in {"cpu": 0, "memory": 0, "tasks": 0}.items():
    orders[f"no {name}"] = start("a", **{name: value})
for name in ("cpu", "memory", "tasks", "timeout"):
    orders[f"infinite {name}"] = start("a", **{name: 2**64 - 1})
for label, property in {
    "unknown property": number(13, 1),
    "very unknown property": number(2**32 - 1, 1),
    "weight 0": number(0, 0),
    "weight 10001": number(0, 10001),
    "two numbers": number(0, 1, count=2),
    "no number": struct.pack("=II", 0, 0),
    "empty mask": mask(5, b""),
    "mask of nothing": mask(5, b"\0"),
    "huge mask": mask(5, b"\1" * 1025),
    "no address": struct.pack("=II", 7, 0),
    "beyond the prefix": struct.pack("=II16sII", 7, 1, b"\x7f\0\0\1", 0, 8),
    "33 bits": struct.pack("=II16sII", 7, 1, b"\x7f\0\0\1", 0, 33),
    "no family": struct.pack("=II16sII", 7, 1, b"", 2, 0),
    "endless addresses": struct.pack("=II", 7, 2**31),
    "no device": limit(9, 5, b"/etc/passwd"),
    "up": limit(9, 5, b"/dev/../etc/passwd"),
    "percent": limit(9, 5, b"/dev/%n"),
    "endless devices": limit(9, 5, b"/dev/vda", count=2**31),
    "0 bytes": limit(9, 0, b"/dev/vda"),
}.items():
    orders[label] = start("a", properties=[property])
orders["twice"] = start("a", properties=[number(0, 5), number(0, 5)])
orders["33 properties"] = start("a", properties=[number(0, 5)] * 33)
orders["more than announced"] = start("a", properties=[number(0, 5)], n=0)
orders["fewer than announced"] = start("a", properties=[number(0, 5)], n=2)
for path in (b"", b"/etc/passwd", b"/dev/../etc/passwd", b"/dev/shm/x", b"/dev/fd/3", b"/dev/%n", b"/dev/a b", b"char-*"):
    orders[f"to open {path}"] = start("a", devices=[path])
orders["257 to open"] = start("a", devices=[b"/dev/null"] * 257)
orders["fewer to open than announced"] = start("a", devices=[b"/dev/null"], n_devices=3)
orders["more to open than announced"] = start("a", devices=[b"/dev/null"], n_devices=1)
orders["endless ones to open"] = start("a", devices=[b"/dev/null"], n_devices=2**32 - 1)
orders["no such order"] = frame(3, b"a\0")
orders["a kill of others"] = kill("ssh.service")
said = {label: ask(connection, order, *([leader.pidfd] if order[16] == 0 else []))[1] for label, order in orders.items()}
said["where the leader is"] = unit_of(leader.pid).split("@")[0]
"""
    )
    assert said.pop("where the leader is") == "daggyr-spawner"
    assert set(said.values()) == {"EPERM"}, {label: error for label, error in said.items() if error != "EPERM"}


def test_frames_that_are_none_are_refused_and_told_once() -> None:
    """Lost: the broker to a crash, or the log to a flood."""
    said = taken_over(
        """
connection = broker()
whole = start("a", properties=[number(0, 5), limit(9, 5, b"/dev/vda")])
answers = [ask(connection, whole[:n])[1] for n in range(1, len(whole))]
answers += [ask(connection, whole + b"x")[1], ask(connection, whole + bytes(200000))[1]]
for _ in range(COUNT):
    answers.append(ask(connection, b"noise")[1])
wrong = ask(connection, frame(0, whole[24:], magic=MAGIC + 1))[1]
alive = ask(connection, stop("daggyr-task-never.scope"))[1]
said = [sorted(set(answers)), wrong, alive, unit_of(os.getpid())]
""",
        COUNT=load(5000),
    )
    assert said[:3] == [["EPERM"], "EPROTO", "ENOENT"]
    told = warnings_about(said[3])
    assert len(told) == len(set(told)) == 3, told


def test_a_flood_that_reads_no_answers_waits_in_the_kernel() -> None:
    """Lost: the host's memory, to a daemon that hangs or means harm."""
    said = taken_over(
        """
connection = broker()
connection.setblocking(False)
sent = 0
deadline = time.monotonic() + 20 * SLOWNESS
while time.monotonic() < deadline and sent < 100000:
    try:
        connection.send(stop("daggyr-task-never.scope", call_id=sent + 1))
        sent += 1
    except BlockingIOError:
        time.sleep(0.2)
        try:
            connection.send(stop("daggyr-task-never.scope", call_id=sent + 1))
            sent += 1
        except BlockingIOError:
            break
pid = os.popen(f"systemctl list-units --plain --no-legend -- 'daggyr-broker@*-{os.getpid()}-*.service'").read().split()[0]
pid = os.popen(f"systemctl show --value -p MainPID '{pid}'").read().strip()
rss = int(next(l for l in open(f"/proc/{pid}/status") if l.startswith("VmRSS")).split()[1])
connection.setblocking(True)
connection.settimeout(60 * SLOWNESS)
answers = [receive(connection) for _ in range(sent)]
said = [sent, rss, sorted({a[1] for a in answers}), sorted(a[0] for a in answers) == list(range(1, sent + 1))]
"""
    )
    sent, rss_kib, errors, all_answered = said
    assert sent > 200
    if "DAGGYR_SANITIZED" not in os.environ:
        assert rss_kib < 16 * 1024
    assert errors == ["ENOENT"]
    assert all_answered


def test_only_the_daemons_account_reaches_the_socket() -> None:
    """Lost: tasks of others, which whoever can connect can stop."""
    found = Path("/run/daggyr/broker.sock").stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == int(run("id", "-u", "daggyr"))
    assert unit_property("daggyr-broker.socket", "Accept") == "yes"


def test_who_is_in_no_service_of_the_systems_is_not_served() -> None:
    """Lost: the end of tasks with their daemon, as there would be nothing to bind them to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:  # these tests run in a scope
        connection.settimeout(30 * SLOWNESS)
        connection.connect("/run/daggyr/broker.sock")
        try:
            assert connection.recv(100) == b""
        except ConnectionResetError:
            pass


def test_it_has_nothing_of_root_but_the_number(start_runner: Callable[..., Runner]) -> None:
    """Lost: the host, to a mistake in the broker."""
    runner = start_runner()
    assert runner.run(["true"])["succeeded"]
    unit = broker_of(runner.main_pid)
    pid = unit_property(unit, "MainPID")
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 5
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    options = {line.split()[4]: line.split()[5].split(",") for line in mounts}
    assert "ro" in options["/"]
    own, ours = (os.readlink(f"/proc/{of}/ns/net") for of in (pid, "self"))
    assert own != ours
    judged = run("systemd-analyze", "security", "--no-pager", unit)
    assert float(re.search(r"exposure level for .*: ([\d.]+)", judged)[1]) <= 1.5  # type: ignore[index]


def broker_pid(runner: Runner) -> int:
    """0 while there is none."""
    pattern = f"daggyr-broker@*-{runner.main_pid}-*.service"
    units = run("systemctl", "list-units", "--state=active", "--plain", "--no-legend", "--", pattern).split()
    return int(unit_property(units[0], "MainPID")) if units else 0


def await_running(runner: Runner, *ids: str) -> None:
    for id in ids:
        await_that(lambda: runner.attempt(id, output="none")["start_time"], timeout=30, what=f"the start of {id}")


def test_a_killed_broker_costs_no_task(start_runner: Callable[..., Runner]) -> None:
    """Lost: running tasks, waiting ones, or one of them twice, with a helper."""
    runner = start_runner({"capacity_overrides": {"cores": 4, "memory_mb": 65536}})
    running = runner.submit(["sleep", "infinity"])
    await_running(runner, running)
    done = Path("/run", f"{task_id()}.log")
    done.touch(mode=0o666)
    done.chmod(0o666)
    command = ["sh", "-c", f"echo $DAGGYR_TASK_ID >> {done}; sleep 0.2"]
    ids: list[str] = []
    for _ in range(5):
        ids += [runner.submit(command) for _ in range(load(15))]
        pid = await_that(lambda: broker_pid(runner), timeout=60, what="a broker")
        os.kill(pid, 9)
        await_that(lambda: broker_pid(runner) != pid, what="its end")
    for id in ids:
        attempt = runner.wait(id, seconds=60)
        assert attempt["result"] == "success", attempt["executor"]
    assert sorted(done.read_text().split()) == sorted(ids)
    done.unlink()
    assert runner.attempt(running)["state"] == "running"
    runner.delete(f"/api/v1/task/{running}")
    assert runner.wait(running)["result"] == "stopped"
    await_nothing_left(running, *ids)


def test_a_broker_that_stands_still_holds_up_starts_and_nothing_else(start_runner: Callable[..., Runner]) -> None:
    """Lost: tasks to a time-out, or the daemon to its watchdog, while the host is short of everything."""
    runner = start_runner(ROOMY)
    running = runner.submit(["sh", "-c", "sleep 2; echo done"])
    await_running(runner, running)
    pid = broker_pid(runner)
    os.kill(pid, 19)
    try:
        waiting = [runner.submit(["echo", "late"]) for _ in range(5)]
        stopped_at = time.monotonic()
        assert runner.wait(running)["output"] == "done\n"
        while time.monotonic() < stopped_at + 10:  # the time itself is what is tested
            assert runner.get("/ready").status_code == 200
            time.sleep(0.2)
        assert {runner.attempt(id)["state"] for id in waiting} == {"running"}
    finally:
        os.kill(pid, 18)
    assert {runner.wait(id)["output"] for id in waiting} == {"late\n"}


def test_a_broker_goes_with_its_daemon(start_runner: Callable[..., Runner]) -> None:
    """Lost: a process of root's account for each daemon that ever was."""
    runner = start_runner()
    assert runner.run(["true"])["succeeded"]
    unit = broker_of(runner.main_pid)
    runner.kill9()
    await_that(lambda: not unit_exists(unit), what=f"the end of {unit}")


def test_it_keeps_nothing_of_what_is_over(start_runner: Callable[..., Runner]) -> None:
    """Lost: descriptors of root's, a few with every task."""
    runner = start_runner(ROOMY)
    assert runner.run(["true"])["succeeded"]
    pid = broker_pid(runner)
    before = sorted(open_fds(pid))
    for id in [runner.submit(["true"]) for _ in range(load(200))]:
        assert runner.wait(id, seconds=60)["succeeded"]
    await_that(lambda: sorted(open_fds(pid)) == before, what="the descriptors as before")


@pytest.mark.parametrize("n", [8, 100])
def test_tasks_that_fit_are_taken_however_many_come_at_once(start_runner: Callable[..., Runner], n: int) -> None:
    """Lost: nine of ten dispatches of a queue, to refusals for room that is there."""
    runner = start_runner({"capacity_overrides": {"cores": n, "memory_mb": 65536}})
    ids = [task_id() for _ in range(n)]

    def submit(id: str) -> int:
        body = {"command": ["sleep", "infinity"], "resources": {"cores": 1, "memory_mb": 16}, "when_full": "reject"}
        return runner.post(f"/api/v1/task/{id}", json=body).status_code

    batch = [{"task_id": id, "command": ["sleep", "infinity"], "when_full": "reject",
              "resources": {"cores": 1, "memory_mb": 16}} for id in ids[: n // 2]]  # fmt: skip
    answered = [item["status"] for item in runner.post("/api/v1/tasks", json=batch).json()]
    with ThreadPoolExecutor(max_workers=8) as pool:
        answered += pool.map(submit, ids[n // 2 :])
    assert answered == [202] * n
    assert submit(task_id()) == 409
    runner.delete(f"/api/v1/task/{ids[0]}", params={"wait": 30})
    assert submit(task_id()) == 202


def test_no_task_gets_a_group_that_is_not_its_accounts() -> None:
    """Lost: the host, to whoever takes the daemon over and asks for the group of its disks."""
    ids = {"disk": task_id(), "its own": task_id(), "root": task_id()}
    said = taken_over(
        """
import grp, pwd
account = pwd.getpwnam("daggyr-task")
said = {}
for label, gid in {"disk": grp.getgrnam("disk").gr_gid, "its own": account.pw_gid, "root": 0}.items():
    unit = "daggyr-task-" + IDS[label] + ".scope"
    leader = Leader(unit, gid=gid, no_new_privileges=0)
    connection = broker()
    assert ask(connection, start(IDS[label]), leader.pidfd)[1] == 0
    said[label] = leader.go()
    if label == "its own":
        pid = int(open(f"/proc/{leader.pid}/task/{leader.pid}/children").read())
        said["no_new_privs"] = [l for l in open(f"/proc/{pid}/status") if l.startswith("NoNewPrivs")][0].split()[1]
    send(connection, kill(unit))
    ask(connection, stop(unit))
""",
        IDS=ids,
    )
    assert said == {"disk": "EPERM", "its own": "started", "root": "EPERM", "no_new_privs": "1"}
