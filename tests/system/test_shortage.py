# SPDX-License-Identifier: LGPL-2.1-or-later
"""Something runs out: descriptors, processes, disk. What runs goes on, what is new waits or is told why."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from bedlib import (
    PYTHON,
    ROOMY,
    SLOWNESS,
    Runner,
    await_nothing_left,
    await_that,
    cgroup_procs,
    open_fds,
    open_folder,
    processes_of,
    run,
    settled_fds,
    task_id,
)

pytestmark = pytest.mark.serial

N_CLIENTS = 200
N_SILENT = 100
FEW_FDS = {"LimitNOFILE": "64"}
MB = 1 << 20
STDIN_BYTES = 300_000
REQUESTS = [
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/api/v1/capacity"),
    ("GET", "/api/v1/impact?cores=1"),
    ("GET", "/api/v1/tasks?limit=1000"),
    ("GET", "/api/v1/task/no-such-task"),
    ("GET", "/api/v1/lease"),
    ("DELETE", "/api/v1/task/no-such-task"),
    ("POST", "/api/v1/tasks"),
]


def assert_idle(runner: Runner) -> None:
    capacity = runner.get("/api/v1/capacity").json()
    assert capacity["free"] == capacity["total"]
    assert capacity["tasks"] == {"queued": 0, "running": 0}


def descriptors(runner: Runner) -> list[str]:
    """What is open, connections of clients and pipes by kind only: those have numbers."""
    runner.http.close()
    return sorted(target.split(":")[0] for target in open_fds(runner.main_pid).values())


def descriptors_at_rest(runner: Runner) -> list[str]:
    runner.http.close()
    settled_fds(runner.main_pid)
    return descriptors(runner)


def submit_and_stay(runner: Runner) -> tuple[requests.Session, str]:
    """One client: submits a task, and keeps its connection open if it may."""
    http = requests.Session()
    http.trust_env = False
    id = task_id("crowd")
    answer = http.post(
        f"{runner.url}/api/v1/task/{id}",
        json={"command": ["sh", "-c", "sleep 0.05; echo $DAGGYR_TASK_ID"]},
        timeout=60 * SLOWNESS,
    )
    assert answer.status_code == 202, answer.text
    return http, id


def test_200_clients_at_once_with_64_descriptors(start_runner: Callable[..., Runner]) -> None:
    """Lost: the runner of old silently died after running out of descriptors."""
    runner = start_runner(ROOMY, properties=FEW_FDS)
    pid = runner.main_pid
    assert runner.run(["true"])["succeeded"]
    before = descriptors_at_rest(runner)
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        clients = list(pool.map(lambda _: submit_and_stay(runner), range(N_CLIENTS)))
    try:
        for _, id in clients:
            attempt = runner.wait(id, seconds=60)
            assert (attempt["result"], attempt["output"]) == ("success", f"{id}\n")
    finally:
        for http, _ in clients:
            http.close()
    assert runner.main_pid == pid
    assert_idle(runner)
    await_that(lambda: descriptors(runner) == before, what=f"only these to be open: {before}")


def test_connections_that_say_nothing_do_not_lock_others_out_for_ever(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: a handful of idle clients, or a port scan, would make the runner unreachable."""
    runner = start_runner(ROOMY, properties=FEW_FDS)
    address = ("127.0.0.1", runner.config["port"])
    running = runner.submit(["sleep", "1"])
    runner.http.close()
    silent = [socket.create_connection(address) for _ in range(N_SILENT)]
    try:
        start = time.monotonic()
        assert runner.get("/ready").status_code == 200
        assert time.monotonic() - start < 30 * SLOWNESS
    finally:
        for connection in silent:
            connection.close()
    assert runner.wait(running)["result"] == "success"


def test_more_waiting_clients_than_descriptors(start_runner: Callable[..., Runner]) -> None:
    """Lost: answers, for who waits for a result holds a connection for as long."""
    runner = start_runner(ROOMY, properties=FEW_FDS)

    def run_one(_: int) -> str:
        with requests.Session() as http:
            http.trust_env = False
            url = f"{runner.url}/api/v1/task/{task_id('waiting')}"
            answer = http.post(url, json={"command": ["sleep", "0.2"]}, timeout=90 * SLOWNESS)
            assert answer.status_code == 202, answer.text
            answer = http.get(url, params={"wait": 60}, timeout=90 * SLOWNESS)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["result"])

    with ThreadPoolExecutor(60) as pool:
        assert list(pool.map(run_one, range(120))) == ["success"] * 120
    assert_idle(runner)


def test_large_outputs_do_not_use_descriptors_up(start_runner: Callable[..., Runner]) -> None:
    """Lost: kept results would in the end leave no descriptor to start a task with."""
    runner = start_runner(ROOMY, properties=FEW_FDS)
    big = "head -c 200000 /dev/zero | tr '\\0' x; head -c 200000 /dev/zero | tr '\\0' y >&2"
    for _ in range(30):
        attempt = runner.run(["sh", "-c", big])
        assert attempt["result"] == "success"
        assert (attempt["output_bytes"], attempt["error_bytes"]) == (200_000, 200_000)
        assert not attempt["output_truncated"], attempt["executor"]
    assert runner.run(["true"])["succeeded"]


def vm_size_bytes(pid: int) -> int:
    words = Path(f"/proc/{pid}/status").read_text().split()
    return 1024 * int(words[words.index("VmSize:") + 1])


def limit_memory(runner: Runner, n_bytes: int | str) -> None:
    """Of its address space. As daggyr's account, for root needs a capability for that that it may lack."""
    prlimit = ["prlimit", "--pid", str(runner.main_pid), f"--as={n_bytes}:"]
    run("setpriv", "--reuid=daggyr", "--regid=daggyr", "--clear-groups", *prlimit)


def try_request(runner: Runner, method: str, path: str, **options: Any) -> int:
    """The status of the answer; 0 if there was not even memory for one."""
    try:
        answer = requests.request(method, runner.url + path, timeout=60 * SLOWNESS, **options)
    except requests.ConnectionError:
        return 0
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["status"] == 503
    return answer.status_code


def submit_until_refused(runner: Runner) -> list[str]:
    """Fills the memory with tasks that wait; returns their ids."""
    waiting: list[str] = []
    body = {"command": ["cat"], "stdin": "x" * STDIN_BYTES, "resources": {"cores": 1}}
    for _ in range(100):
        id = task_id("big")
        status = try_request(runner, "POST", f"/api/v1/task/{id}", json=body)
        assert status in (202, 503, 0)
        if status == 503:
            assert try_request(runner, "GET", f"/api/v1/task/{id}") in (404, 0)
            return waiting
        waiting += [id] * (status == 202)
    raise AssertionError(f"{len(waiting)} tasks were accepted, and none refused")


@pytest.mark.plain  # sanitizers need terabytes of address space
def test_a_daemon_without_memory_refuses_what_is_new_and_finishes_what_runs(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: everything that runs, to one client that sends too much."""
    runner = start_runner({"capacity_overrides": {"cores": 1, "memory_mb": 4096}})
    pid = runner.main_pid
    gates = open_folder()
    script = f"until [ -e {gates}/1 ]; do sleep 0.02; done; echo done; exit 3"
    running = runner.submit(["sh", "-c", script], resources={"cores": 0.5})
    await_that(lambda: runner.attempt(running)["start_time"], what="the start")
    waiting: list[str] = []
    for room_bytes in range(0, 4 * MB, MB // 2):  # each time it is another step that finds no memory
        limit_memory(runner, vm_size_bytes(pid) + room_bytes)
        waiting += submit_until_refused(runner)
        for method, path in REQUESTS:
            assert try_request(runner, method, path) in (200, 202, 400, 404, 503, 0)
    (gates / "1").touch()
    await_that(lambda: not processes_of(running), what="the end of what runs")

    limit_memory(runner, "unlimited")
    attempt = runner.wait(running)
    assert (attempt["result"], attempt["exit_code"], attempt["output"]) == ("exit-code", 3, "done\n")
    assert len(waiting) > 10
    for id in waiting:
        attempt = runner.wait(id)
        assert (attempt["result"], attempt["output_bytes"]) == ("success", STDIN_BYTES)
    # Of what was refused nothing is known; where no answer came, either may be.
    known = {task["task_id"] for task in runner.get("/api/v1/tasks?limit=1000").json()["tasks"]}
    assert {*waiting, running} <= known
    assert runner.main_pid == pid
    assert_idle(runner)


def tasks_max(unit: str, limit: str) -> None:
    run("systemctl", "set-property", "--runtime", unit, f"TasksMax={limit}")


@pytest.fixture
def slice_limit() -> Generator[None, None, None]:
    yield
    tasks_max("daggyr.slice", "infinity")


def test_a_spawner_that_may_not_fork_starts_its_tasks_later(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: tasks, to a shortage that would have passed."""
    runner = start_runner(ROOMY)
    assert runner.run(["true"])["succeeded"]
    running = runner.submit(["sleep", "1"])
    await_that(lambda: runner.attempt(running)["start_time"], what="the start")
    before = descriptors(runner)
    tasks_max(runner.spawner_unit, str(len(cgroup_procs(runner.spawner_unit))))
    ids = [runner.submit(["echo", str(i)]) for i in range(5)]
    assert runner.wait(running)["result"] == "success"
    assert runner.attempt(ids[0], wait=1)["state"] == "queued"
    assert [runner.attempt(id)["state"] for id in ids] == ["queued"] * 5
    assert runner.journal().count("Tasks wait though there is room for them") == 1
    assert len(descriptors(runner)) <= len(before)
    deleted = ids.pop()
    assert runner.delete(f"/api/v1/task/{deleted}").status_code == 202
    assert runner.wait(deleted)["result"] == "canceled"
    tasks_max(runner.spawner_unit, "infinity")
    for i, id in enumerate(ids):
        assert runner.wait(id)["output"] == f"{i}\n"
    assert_idle(runner)


def test_a_slice_without_room_for_processes_is_named(
    start_runner: Callable[..., Runner], slice_limit: None
) -> None:
    """Lost: the reason why nothing runs."""
    runner = start_runner(ROOMY)
    assert runner.run(["true"])["succeeded"]  # from here on it has its connection to the broker
    before = descriptors_at_rest(runner)
    gates = open_folder()
    wait = f"import os, time\nwhile not os.path.exists('{gates}/open'): time.sleep(0.02)\nprint('done')"
    id = runner.submit([PYTHON, "-c", wait])
    await_that(lambda: runner.attempt(id)["start_time"], what="the start")
    tasks_max("daggyr.slice", "3")  # two of that task, and a leader
    attempt = runner.run(["true"])
    assert (attempt["state"], attempt["result"]) == ("errored", "exec-failed")
    (note,) = attempt["executor"]
    assert "a limit on processes is reached, TasksMax= of daggyr.slice" in note
    assert "Resource temporarily unavailable" in note
    assert attempt["exit_code"] is None
    known = runner.get("/api/v1/capacity").json()["tasks"]
    assert known == {"queued": 0, "running": 1}
    tasks_max("daggyr.slice", "infinity")
    assert runner.run(["true"])["succeeded"]
    (gates / "open").touch()
    attempt_of_first = runner.wait(id)
    assert (attempt_of_first["result"], attempt_of_first["output"]) == ("success", "done\n")
    await_nothing_left(id, attempt["task_id"])
    await_that(lambda: descriptors(runner) == before, what=f"only these to be open: {before}")


@pytest.fixture
def small_disk() -> Generator[Path, None, None]:
    """A file system of one megabyte, daggyr's own."""
    folder = Path("/run/daggyr-test-disk")
    folder.mkdir(mode=0o755)
    run("mount", "-t", "tmpfs", "-o", "size=1M,mode=700,uid=daggyr", "small", str(folder))
    yield folder
    run("umount", "--lazy", str(folder))
    folder.rmdir()


def free_bytes(folder: Path) -> int:
    return int(run("stat", "--file-system", "--format=%a", str(folder))) * int(
        run("stat", "--file-system", "--format=%S", str(folder))
    )


def output_of(n_bytes: int) -> list[str]:
    return ["sh", "-c", f"head -c {n_bytes} /dev/zero | tr '\\0' x; exit 3"]


def test_a_full_disk_harms_only_the_output_that_needs_it(
    start_runner: Callable[..., Runner], small_disk: Path
) -> None:
    """Lost: output silently, or tasks that have nothing to do with it."""
    properties = {"Environment": f"CACHE_DIRECTORY={small_disk}", "ReadWritePaths": str(small_disk)}
    runner = start_runner(ROOMY | {"inline_output_bytes": 1 << 24}, properties=properties)
    empty = free_bytes(small_disk)
    small = runner.submit(["sh", "-c", "echo before; sleep 1; echo after"])
    large = runner.run(output_of(4_000_000))
    assert (large["result"], large["exit_code"]) == ("exit-code", 3)
    assert large["output_bytes"] == 4_000_000
    assert large["output_truncated"]
    assert any("No space left on device" in note for note in large["executor"])
    assert 500_000 < len(large["output"]) < empty + 65536
    assert set(large["output"]) == {"x"}

    second = runner.run(output_of(300_000))  # not even its start finds room, but memory has it
    assert any("No space left on device" in note for note in second["executor"])
    assert 0 < len(second["output"]) <= 65536
    assert runner.wait(small)["output"] == "before\nafter\n"
    assert runner.get("/ready").status_code == 200

    for attempt in (large, second):
        assert runner.delete(f"/api/v1/task/{attempt['task_id']}").status_code == 204
    await_that(lambda: free_bytes(small_disk) == empty, what="the space to be given back")
    third = runner.run(output_of(300_000))
    assert (len(third["output"]), third["output_truncated"]) == (300_000, False)
    assert_idle(runner)
