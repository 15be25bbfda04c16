# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices by name: who gets which, and that nobody else can open them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bedlib import ROOMY, SLOWNESS, Queue, Runner, await_that, processes_of, run, task_id

Starter = Callable[..., Any]

EXPERIMENTAL_MAJOR = 240
"""No driver has it: to open such a device fails with ENXIO for who may, and with EPERM for who may not."""

_minors = itertools.count(1)


@pytest.fixture
def nodes(worker_id: str) -> Iterator[list[str]]:
    """A device that all holders share, and three for one holder each."""
    folder = Path(f"/dev/test-{worker_id}")
    folder.mkdir()
    paths = [folder / name for name in ("ctl", "0", "1", "2")]
    for path in paths:
        minor = int.from_bytes(worker_id.encode()[-1:], "big") * 1000 + next(_minors)
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(EXPERIMENTAL_MAJOR, minor))
        path.chmod(0o666)
    yield list(map(str, paths))
    shutil.rmtree(folder)


def gpus(nodes: list[str]) -> dict[str, Any]:
    ctl, *items = nodes
    return {
        "gpu": {
            "paths": [ctl],
            "items": [
                {"id": str(i), "paths": [path], "environment": {"VISIBLE": str(i), "KIND": "test"}}
                for i, path in enumerate(items)
            ],
        }
    }


def asking(n: int) -> dict[str, Any]:
    return {"resources": {"cores": 1, "memory_mb": 64, "gpu": n}}


def openable(runner: Runner, nodes: list[str], **fields: Any) -> set[str]:
    """Which of the nodes a task can open; /dev/null must be among what it can in any case."""
    script = 'for d; do (: <>"$d") 2>&1 | grep -q "No such device or address" && echo "$d"; done; : <>/dev/null'
    attempt = runner.run(["sh", "-c", script, "sh", *nodes], **fields)
    assert attempt["result"] == "success", attempt
    return set(attempt["output"].split())


def total_gpus(runner: Runner) -> int | None:
    n: int | None = runner.get("/api/v1/capacity").json()["total"].get("gpu")
    return n


def await_running(runner: Runner, id: str) -> dict[str, Any]:
    await_that(lambda: runner.attempt(id)["state"] == "running", what=f"{id} to run")
    return runner.attempt(id)


def test_no_two_tasks_have_one_item(start_runner: Starter, nodes: list[str]) -> None:
    """Lost: the memory of a GPU, to a second task that believes it has it for itself."""
    runner = start_runner(ROOMY | {"devices": gpus(nodes)})
    assert total_gpus(runner) == 3
    holders = [runner.submit(["sleep", "infinity"], **asking(n)) for n in (1, 2)]
    held = [await_running(runner, id)["devices"] for id in holders]
    assert held == [{"gpu": ["0"]}, {"gpu": ["1", "2"]}]
    waiting = runner.submit(["true"], **asking(1))
    assert runner.attempt(waiting)["state"] == "queued"
    runner.delete(f"/api/v1/task/{holders[1]}?wait=30&keep=true")
    assert runner.wait(waiting)["devices"] == {"gpu": ["1"]}
    assert runner.attempt(holders[1])["devices"] == held[1]  # it tells what it had


def test_a_task_is_told_which_it_has(start_runner: Starter, nodes: list[str]) -> None:
    """Lost: programs that take the first GPU they see."""
    runner = start_runner(ROOMY | {"devices": gpus(nodes)})
    script = 'echo "$DAGGYR_DEVICES_GPU $VISIBLE $KIND"'
    command = ["sh", "-c", script]
    assert runner.run(command, **asking(2), environment={"VISIBLE": "9"})["output"] == "0,1 0,1 test,test\n"
    attempt = runner.run(command, environment={"VISIBLE": "9"})
    assert attempt["output"] == " 9 \n"
    assert "devices" not in attempt


@pytest.mark.kernel
def test_only_the_holder_can_open_them(start_runner: Starter, nodes: list[str]) -> None:
    """Lost: what a name and a number are worth, to any task that opens the node by its path."""
    runner = start_runner(ROOMY | {"devices": gpus(nodes)})
    ctl, *items = nodes
    assert openable(runner, nodes) == set()
    holder = runner.submit(["sleep", "infinity"], **asking(1))
    await_running(runner, holder)
    assert openable(runner, nodes, **asking(1)) == {ctl, items[1]}
    assert openable(runner, nodes, **asking(2)) == {ctl, items[1], items[2]}


@pytest.mark.kernel
def test_without_paths_nothing_is_closed(start_runner: Starter, nodes: list[str]) -> None:
    """Lost: every device of tasks on hosts whose items are only counted, licences for instance."""
    runner = start_runner(ROOMY | {"devices": {"licence": {"items": [{"id": "a"}]}}})
    assert openable(runner, nodes) == set(nodes)


@pytest.mark.kernel
def test_a_missing_path_fails_the_task_and_loses_no_item(start_runner: Starter, nodes: list[str]) -> None:
    """Lost: an hour's search for why a program found no GPU; then the item, until a restart."""
    runner = start_runner(ROOMY | {"devices": gpus(nodes)})
    path = Path(nodes[1])
    number = path.stat().st_rdev
    path.unlink()
    attempt = runner.run(["true"], **asking(1))
    assert attempt["result"] == "start-failed"
    assert any(str(path) in note and "No such file" in note for note in attempt["executor"]), attempt["executor"]
    os.mknod(path, 0o666 | stat.S_IFCHR, number)
    assert runner.run(["true"], **asking(1))["devices"] == {"gpu": ["0"]}


def test_items_come_back_when_the_last_process_has_gone(start_runner: Starter, nodes: list[str]) -> None:
    """Lost: devices, one after the other, to tasks that are killed."""
    runner = start_runner(ROOMY | {"devices": gpus(nodes)})
    id = runner.submit(["sh", "-c", "sleep infinity & sleep infinity"], **asking(3))
    await_running(runner, id)
    for pid in await_that(lambda: processes_of(id) if len(processes_of(id)) == 3 else None, what="its processes"):
        with suppress(ProcessLookupError):  # the shell ends by itself after the one that it waits for
            os.kill(pid, 9)
    assert runner.wait(id)["signal"] == "SIGKILL"
    assert runner.run(["true"], **asking(3))["devices"] == {"gpu": ["0", "1", "2"]}


def test_a_reload_leaves_what_is_in_use(start_runner: Starter, nodes: list[str]) -> None:
    """Lost: two holders of one item, after a configuration that names it anew."""
    runner = start_runner(ROOMY | {"devices": gpus(nodes)})
    holder = runner.submit(["sleep", "infinity"], **asking(1))
    await_running(runner, holder)
    fewer = gpus(nodes)
    del fewer["gpu"]["items"][2]
    runner.reconfigure(devices=fewer)
    await_that(lambda: total_gpus(runner) == 2, what="the new count")
    assert runner.run(["true"], **asking(1))["devices"] == {"gpu": ["1"]}
    runner.reconfigure(devices={})
    await_that(lambda: total_gpus(runner) is None, what="no count")
    assert runner.attempt(holder)["devices"] == {"gpu": ["0"]}
    runner.reconfigure(devices=fewer)
    await_that(lambda: runner.get("/api/v1/capacity").json()["free"].get("gpu") == 1, what="the count again")
    assert runner.run(["true"], **asking(1))["devices"] == {"gpu": ["1"]}


def test_a_reload_with_other_items_gives_those(start_runner: Starter, nodes: list[str]) -> None:
    """Lost: devices that were added, until what runs has ended; or those in use, a second time."""
    runner = start_runner(ROOMY | {"devices": gpus(nodes)})
    holder = runner.submit(["sleep", "infinity"], **asking(2))
    await_running(runner, holder)
    others = [{"id": id, "paths": [path]} for id, path in zip("1ab", nodes[1:])]
    runner.reconfigure(devices={"gpu": {"items": others}, "licence": {"items": [{"id": "x"}]}})
    await_that(lambda: "licence" in runner.get("/api/v1/resources").json(), what="the new devices")
    assert openable(runner, nodes, **asking(1)) == {nodes[2]}
    resources = {"cores": 1, "memory_mb": 64, "gpu": 1, "licence": 1}
    assert runner.run(["true"], resources=resources)["devices"] == {"gpu": ["a"], "licence": ["x"]}
    runner.delete(f"/api/v1/task/{holder}?wait=30")
    assert runner.run(["true"], **asking(3))["devices"] == {"gpu": ["1", "a", "b"]}


def test_nothing_waits_for_a_task_whose_devices_have_gone(start_runner: Starter, nodes: list[str]) -> None:
    """Lost: a runner, to one task that can never start."""
    runner = start_runner(ROOMY | {"devices": gpus(nodes)})
    holder = runner.submit(["sleep", "infinity"], **asking(1))
    await_running(runner, holder)
    waiting = runner.submit(["true"], **asking(3))
    runner.reconfigure(devices={})
    await_that(lambda: total_gpus(runner) is None, what="no count")
    assert runner.run(["true"], when_full="reject")["succeeded"]
    assert runner.attempt(waiting)["state"] == "queued"
    runner.delete(f"/api/v1/task/{holder}?wait=30")
    runner.reconfigure(devices=gpus(nodes))
    assert runner.wait(waiting)["devices"] == {"gpu": ["0", "1", "2"]}


def test_overrides_and_devices_of_one_name_do_not_go_together(start_runner: Starter, nodes: list[str]) -> None:
    """Lost: the number of devices that there are."""
    runner = start_runner(ROOMY | {"devices": gpus(nodes)})
    both = runner.config | {"capacity_overrides": {"gpu": 8}}
    runner.reload("/capacity_overrides", json.dumps(both))
    assert total_gpus(runner) == 3
    assert runner.run(["true"], **asking(3))["succeeded"]


def test_daggyctl_shows_them(start_runner: Starter, nodes: list[str]) -> None:
    """Lost: which GPU to look at."""
    runner = start_runner(ROOMY | {"devices": gpus(nodes) | {"licence": {"items": [{"id": "x"}]}}})
    id = runner.submit(["true"], resources={"cores": 1, "memory_mb": 64, "gpu": 2, "licence": 1})
    runner.wait(id)
    show = ["daggyctl", "--host", runner.url, "show", id]
    said = subprocess.run(show, stdout=subprocess.PIPE, text=True, check=True, timeout=60 * SLOWNESS).stdout
    assert ["Devices:", "gpu=0,1", "licence=x"] in [line.split() for line in said.splitlines()], said


def test_a_queue_counts_them(start_runner: Starter, start_queue: Starter, nodes: list[str]) -> None:
    """Lost: devices behind a queue."""
    queue: Queue = start_queue({"w": start_runner(ROOMY | {"devices": gpus(nodes)})})
    queue.await_leases("w")
    attempt = queue.run(["printenv", "DAGGYR_DEVICES_GPU"], **asking(2))
    assert (attempt["output"], attempt["devices"]) == ("0,1\n", {"gpu": ["0", "1"]})
    assert queue.get("/api/v1/capacity").json()["total"]["gpu"] == 3
    holder = queue.submit(["sleep", "infinity"], **asking(2))
    waiting = queue.submit(["true"], **asking(2))
    await_that(lambda: queue.attempt(holder)["state"] == "running", what="the first")
    assert queue.attempt(waiting)["state"] == "queued"
    queue.delete(f"/api/v1/task/{holder}?wait=30")
    assert queue.wait(waiting)["devices"] == {"gpu": ["0", "1"]}
    assert queue.post(f"/api/v1/task/{task_id()}", json={"command": ["true"]} | asking(4)).status_code == 422


REFUSED = [
    ({"gpu": {"items": []}}, {}, "/devices/gpu/items"),
    ({"gpu": {}}, {}, "/devices/gpu/items"),
    ({"GPU": {"items": [{"id": "0"}]}}, {}, "/devices/GPU"),
    ({"gpu": {"items": [{"id": "0"}, {"id": "0"}]}}, {}, "/devices/gpu/items/1"),
    ({"gpu": {"items": [{"id": "0,1"}]}}, {}, "/devices/gpu/items/0/id"),
    ({"gpu": {"items": [{"id": "0", "paths": ["/tmp/node"]}]}}, {}, "/devices/gpu/items/0/paths"),
    ({"gpu": {"items": [{"id": "0", "paths": ["/dev/shm/node"]}]}}, {}, "/devices/gpu/items/0/paths"),
    ({"gpu": {"paths": ["/dev/../tmp/node"], "items": [{"id": "0"}]}}, {}, "/devices/gpu/paths"),
    ({"gpu": {"items": [{"id": "0", "environment": {"DAGGYR_DEVICES_GPU": "9"}}]}}, {}, "/devices/gpu/items/0/env"),
    ({"gpu": {"items": [{"id": str(i)} for i in range(65)]}}, {}, "/devices/gpu/items"),
    ({"gpu": {"items": [{"id": str(i), "paths": ["/dev/a"] * 8} for i in range(33)]}}, {}, "/devices"),
    ({"gpu": {"items": [{"id": "0"}]}}, {f"n{i}": 1 for i in range(16)}, "/devices"),
    ({"gpu": {"items": [{"id": "0"}]}}, {"gpu": 1}, "/capacity_overrides"),
]


@pytest.mark.parametrize(("devices", "overrides", "field"), REFUSED)
def test_a_configuration_that_cannot_be_is_refused(
    tmp_path: Path, devices: dict[str, Any], overrides: dict[str, Any], field: str
) -> None:
    """Lost: an administrator's evening."""
    path = tmp_path / "daggyr.json"
    path.write_text(json.dumps({"devices": devices, "capacity_overrides": overrides}))
    said = run("daggyr", "--check", "--config", str(path), check=False, stderr=-2)
    assert field in said
