# SPDX-License-Identifier: LGPL-2.1-or-later
"""Capacity: what there is, what is taken, what it means for the next task, and who goes first."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bedlib import ROOMY, SLOWNESS, Runner, await_that, run, submit_brood


def start_order(runner: Runner, ids: list[str]) -> list[str]:
    return sorted(ids, key=lambda id: str(runner.wait(id)["start_time"]))


def state_of(runner: Runner, id: str) -> str:
    return str(runner.attempt(id)["state"])


def free(runner: Runner) -> dict[str, float]:
    found: dict[str, float] = runner.get("/api/v1/capacity").json()["free"]
    return found


SEED = [
    ((70, 20480), {"cores": 2 / 70, "memory_mb": 0.25}, 0.25),
    ((4, 81920), {"cores": 0.5, "memory_mb": 0.0625}, 0.5),
    ((10, 30720), {"cores": 0.2, "memory_mb": 5120 / 30720}, 0.2),
]


@pytest.mark.parametrize(("capacity", "impact", "max_impact"), SEED)
def test_the_impact_of_a_task_is_its_share_of_what_is_free(
    start_runner: Callable[..., Runner],
    capacity: tuple[int, int],
    impact: dict[str, float],
    max_impact: float,
) -> None:
    """Lost: the figure by which a queue chooses among runners."""
    overrides = dict(zip(("cores", "memory_mb"), capacity))
    runner = start_runner({"capacity_overrides": overrides})
    answer = runner.get("/api/v1/impact?cores=2&memory_mb=5120").json()
    assert answer["satisfiable"] is True
    assert answer["impact"] == pytest.approx(impact)
    assert answer["max_impact"] == pytest.approx(max_impact)
    assert runner.get("/api/v1/resources").json() == overrides


def test_the_impact_counts_what_runs_already(start_runner: Callable[..., Runner]) -> None:
    """Lost: a busy runner would look as good as an idle one."""
    runner = start_runner({"capacity_overrides": {"cores": 4, "memory_mb": 1024, "gpu": 2}})
    id = submit_brood(runner, resources={"cores": 2, "memory_mb": 256, "gpu": 1})
    half = runner.get("/api/v1/impact?cores=1&memory_mb=192&gpu=1").json()
    assert half["impact"] == {"cores": 0.5, "memory_mb": 0.25, "gpu": 1}
    assert half["max_impact"] == 1
    for query in ("cores=3", "memory_mb=1000", "gpu=2", "fpga=1"):
        answer = runner.get(f"/api/v1/impact?{query}").json()
        assert (answer["satisfiable"], answer["max_impact"]) == (False, None)
    runner.delete(f"/api/v1/task/{id}?wait=60")
    assert runner.get("/api/v1/impact?cores=2").json()["max_impact"] == 0.5


@pytest.mark.parametrize("query", ["cores=x", "cores=-1", "memory_mb=1.5", "cores=1&cores=2"])
def test_an_impact_of_nonsense_is_refused(start_runner: Callable[..., Runner], query: str) -> None:
    """Lost: a misspelt question would get an answer to another one."""
    assert start_runner(ROOMY).get(f"/api/v1/impact?{query}").status_code == 400


def test_a_running_task_reserves_what_it_asked_for(start_runner: Callable[..., Runner]) -> None:
    """Lost: the machine would be promised to more tasks than it can bear."""
    runner = start_runner({"capacity_overrides": {"cores": 4, "memory_mb": 2048}})
    idle = runner.get("/api/v1/capacity").json()
    assert idle["total"] == idle["free"] == {"cores": 4, "memory_mb": 2048}
    assert (idle["tasks"], idle["draining"]) == ({"queued": 0, "running": 0}, False)

    first = runner.submit(["sleep", "infinity"], resources={"cores": 2.5, "memory_mb": 1024})
    second = runner.submit(["sleep", "infinity"], resources={"cores": 2})
    await_that(lambda: state_of(runner, first) == "running")
    busy = runner.get("/api/v1/capacity").json()
    assert busy["total"] == {"cores": 4, "memory_mb": 2048}
    assert busy["free"] == {"cores": 1.5, "memory_mb": 1024}
    assert busy["tasks"] == {"queued": 1, "running": 1}
    assert busy["revision"] > idle["revision"]

    runner.delete(f"/api/v1/task/{first}?wait=60")
    await_that(lambda: state_of(runner, second) == "running")
    runner.delete(f"/api/v1/task/{second}?wait=60")
    again = runner.get("/api/v1/capacity").json()
    assert again["free"] == idle["free"]
    assert again["revision"] > busy["revision"]


def test_fractions_of_cores_add_up(start_runner: Callable[..., Runner]) -> None:
    """Lost: ten tasks of 0.1 would not fit on one core, for the sake of binary fractions."""
    runner = start_runner({"capacity_overrides": {"cores": 1, "memory_mb": 8192}})
    ids = [runner.submit(["sleep", "infinity"], resources={"cores": 0.1}) for _ in range(10)]
    await_that(lambda: [state_of(runner, id) for id in ids] == ["running"] * 10)
    assert free(runner)["cores"] == 0
    for id in ids:
        runner.delete(f"/api/v1/task/{id}")
    for id in ids:
        runner.wait(id)
    assert free(runner) == {"cores": 1, "memory_mb": 8192}


def test_a_named_capacity_is_shared_out(start_runner: Callable[..., Runner]) -> None:
    """Lost: two tasks would use one graphics card, licence or test device at a time."""
    runner = start_runner({"capacity_overrides": ROOMY["capacity_overrides"] | {"gpu": 2}})
    assert runner.get("/api/v1/resources").json()["gpu"] == 2
    holders = [runner.submit(["sleep", "infinity"], resources={"gpu": 1}) for _ in range(3)]
    await_that(lambda: [state_of(runner, id) for id in holders] == ["running", "running", "queued"])
    assert free(runner)["gpu"] == 0
    assert runner.run(["true"])["succeeded"]  # wants none
    runner.delete(f"/api/v1/task/{holders[0]}")
    await_that(lambda: state_of(runner, holders[2]) == "running")


def test_each_start_has_an_id_of_its_own(start_runner: Callable[..., Runner]) -> None:
    """Lost: a queue could not tell a runner that lost everything from one that forgot a result."""
    ids = [start_runner().get("/api/v1/capacity").json()["facts"]["instance_id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", id) for id in ids)
    assert ids[0] != ids[1]


def test_facts_of_the_host_are_there(start_runner: Callable[..., Runner]) -> None:
    """Lost: inventories, and telling two runners of one machine from two machines."""
    facts = start_runner().get("/api/v1/capacity").json()["facts"]
    assert re.fullmatch("[0-9a-f]{32}", facts["machine_id"])
    assert facts["machine_id"] != open("/etc/machine-id").read().strip()
    boot_id = open("/proc/sys/kernel/random/boot_id").read()
    assert facts["boot_id"].replace("-", "") == boot_id.strip().replace("-", "")
    assert facts["hostname"] == os.uname().nodename
    assert facts["systemd"].startswith(run("systemctl", "--version").split()[1])
    assert facts["system_state"] in ("running", "degraded", "starting")
    assert facts["slice"] == "daggyr.slice"
    assert facts["cpus"] == len(os.sched_getaffinity(0))
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    assert facts["memory_mb"] == pytest.approx(physical, abs=1)


@pytest.mark.kernel
def test_without_overrides_the_machine_is_shared_with_others(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: tasks would be given all of the machine, and the system itself starve."""
    runner = start_runner()
    facts = runner.get("/api/v1/capacity").json()["facts"]
    assert runner.get("/api/v1/resources").json() == {
        "cores": max(1, facts["cpus"] - 2),
        "memory_mb": facts["memory_mb"] * 3 // 4,
    }
    everything = start_runner({"capacity_overrides": {"cores": 0, "memory_mb": 100}})
    assert everything.get("/api/v1/resources").json() == {"cores": facts["cpus"], "memory_mb": 100}


@pytest.fixture
def slice_limits() -> Iterator[Callable[..., str]]:
    """Sets properties of the tasks' slice as an administrator does; all is undone afterwards."""
    unlimited = ["MemoryMax=infinity", "CPUQuota="]

    def set_property(*properties: str) -> str:
        return run("systemctl", "set-property", "--runtime", "daggyr.slice", *properties)

    yield set_property
    set_property(*unlimited)
    run("systemctl", "revert", "daggyr.slice")


@pytest.mark.kernel
@pytest.mark.serial
def test_limits_of_the_slice_are_the_capacity(
    start_runner: Callable[..., Runner], slice_limits: Callable[..., str]
) -> None:
    """Lost: administrators could not change at runtime how much of a machine is for tasks."""
    runner = start_runner({"capacity_overrides": {"cores": 0}})

    def resources() -> Any:
        return runner.get("/api/v1/resources").json()

    before = resources()
    slice_limits("MemoryMax=1G", "CPUQuota=100%")
    await_that(lambda: resources() == {"cores": 1, "memory_mb": 768}, timeout=3)
    assert runner.get("/api/v1/capacity").json()["total"] == {"cores": 1, "memory_mb": 768}
    slice_limits("MemoryMax=64M")
    await_that(lambda: resources() == {"cores": 1, "memory_mb": 100}, timeout=3)
    slice_limits("MemoryMax=infinity", "CPUQuota=")
    await_that(lambda: resources() == before, timeout=3)


@pytest.mark.kernel
@pytest.mark.serial
def test_a_waiting_task_starts_when_the_slice_gets_more(
    start_runner: Callable[..., Runner], slice_limits: Callable[..., str]
) -> None:
    """Lost: tasks would wait on an idle machine until something else ends."""
    slice_limits("MemoryMax=1G")
    runner = start_runner({"capacity_overrides": {"cores": 8}})
    first = runner.submit(["sleep", "infinity"])
    second = runner.submit(["sleep", "infinity"])
    await_that(lambda: state_of(runner, first) == "running")
    assert state_of(runner, second) == "queued"
    slice_limits("MemoryMax=2G")
    await_that(lambda: state_of(runner, second) == "running", what="the start of what waited")
    slice_limits("MemoryMax=512M")  # less than is in use: nobody is stopped, nothing is free
    await_that(lambda: free(runner)["memory_mb"] == 0)
    assert [state_of(runner, id) for id in (first, second)] == ["running"] * 2


def test_waiting_tasks_start_in_order_of_arrival(start_runner: Callable[..., Runner]) -> None:
    """Lost: some clients would wait for ever while others are served."""
    runner = start_runner({"capacity_overrides": {"cores": 1}})
    holder = runner.submit(["sleep", "infinity"])
    ids = [runner.submit(["true"]) for _ in range(8)]
    runner.delete(f"/api/v1/task/{holder}")
    assert start_order(runner, ids) == ids


def test_a_small_task_passes_a_large_one_that_does_not_fit(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: half of the machine would be idle behind one large task."""
    runner = start_runner({"capacity_overrides": {"cores": 3, "memory_mb": 8192}})
    holder = runner.submit(["sleep", "infinity"], resources={"cores": 2})
    large = runner.submit(["sleep", "infinity"], resources={"cores": 3})
    assert runner.run(["true"])["succeeded"]
    assert state_of(runner, large) == "queued"
    also_two = runner.submit(["true"], resources={"cores": 2})
    assert state_of(runner, also_two) == "queued"
    runner.delete(f"/api/v1/task/{holder}?wait=60")
    await_that(lambda: state_of(runner, large) == "running")
    assert state_of(runner, also_two) == "queued"  # it came later, and fits only after it
    runner.delete(f"/api/v1/task/{large}")
    assert runner.wait(also_two)["succeeded"]


@pytest.mark.plain
def test_a_large_task_is_not_passed_for_ever(start_runner: Callable[..., Runner]) -> None:
    """Lost: a steady stream of small tasks would keep a large one waiting without end."""
    runner = start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 8192}})
    holder = runner.submit(["sleep", "infinity"])
    large = runner.submit(["true"], resources={"cores": 2})
    small = []
    start = time.monotonic()

    def one_has_to_wait() -> bool:
        small.append(runner.submit(["sleep", "0.5"]))
        return runner.attempt(small[-1], wait=3 * SLOWNESS)["state"] == "queued"

    await_that(one_has_to_wait, timeout=60, what="an end of small tasks passing the large one")
    assert 30 <= time.monotonic() - start < 30 + 10 * SLOWNESS
    runner.delete(f"/api/v1/task/{holder}")
    assert start_order(runner, [*small, large])[-2:] == [large, small[-1]]


def test_ready_says_whether_tasks_may_come(start_runner: Callable[..., Runner]) -> None:
    """Lost: load balancers and queues could not tell a runner that works."""
    answer = start_runner().get("/ready")
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_course_of_capacity_is_told(daemon: Runner) -> None:
    """Lost: whether the machine was busy all night."""

    def course() -> list[dict[str, Any]]:
        points: list[dict[str, Any]] = daemon.get("/api/v1/capacity/history").json()
        assert points and [point["time"] for point in points] == sorted(point["time"] for point in points)
        return points

    assert course()[-1]["tasks"]["running"] == 0
    id = daemon.submit(["sleep", "100"], resources={"cores": 1, "memory_mb": 100})
    await_that(lambda: course()[-1]["tasks"]["running"] == 1, 30, "a point at which it runs")

    def is_counted() -> bool:
        last = course()[-1]
        return last["free"]["cores"] == last["total"]["cores"] - 1

    # A queue knows for certain by what its worker says next: one word may have been on its way already.
    await_that(is_counted, 30, "what it uses to be no more free")
    daemon.delete(f"/api/v1/task/{id}")
    await_that(lambda: course()[-1]["tasks"]["running"] == 0, 30, "a point at which it is over")
