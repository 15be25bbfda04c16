# SPDX-License-Identifier: LGPL-2.1-or-later
"""The limits that a task was promised are in force, in systemd's eyes and in the kernel's."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bedlib import (
    PYTHON,
    ROOMY,
    SLOWNESS,
    Runner,
    await_nothing_left,
    await_that,
    cgroup_folder,
    unit_property,
)

UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()
GLUTTON = "b = bytearray(200 << 20); print('survived', flush=True)"


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


def started(runner: Runner, **fields: object) -> str:
    """The unit of a task that sleeps, once its command runs."""
    id = runner.submit(["sleep", "infinity"], **fields)
    await_that(lambda: runner.attempt(id)["start_time"], what=f"the start of {id}")
    return str(runner.attempt(id)["unit"])


def kernel_value(unit: str, controller: str, unified: str, legacy: str) -> list[int]:
    folder = cgroup_folder(unit, controller)
    assert folder
    return [int(n) for n in (folder / (unified if UNIFIED else legacy)).read_text().split()]


@pytest.mark.kernel
def test_limits_are_in_force_in_systemd_and_in_the_kernel(runner: Runner) -> None:
    """Lost: one task could take the whole machine from all others."""
    unit = started(runner, resources={"cores": 0.25, "memory_mb": 100}, tasks_max=7, grace=3)
    assert unit_property(unit, "CPUQuotaPerSecUSec") == "250ms"
    assert unit_property(unit, "MemoryMax") == str(100 << 20)
    assert unit_property(unit, "MemorySwapMax") == "0"
    assert unit_property(unit, "Slice") == "daggyr.slice"
    assert int(unit_property(unit, "TasksMax")) in (7, 8)  # one may be daggyr's own

    if UNIFIED:
        quota, period = kernel_value(unit, "cpu", "cpu.max", "")
    else:
        (quota,) = kernel_value(unit, "cpu", "", "cpu.cfs_quota_us")
        (period,) = kernel_value(unit, "cpu", "", "cpu.cfs_period_us")
    assert quota / period == 0.25
    assert kernel_value(unit, "memory", "memory.max", "memory.limit_in_bytes") == [100 << 20]


def test_a_task_that_asks_for_nothing_gets_the_default(start_runner: Callable[..., Runner]) -> None:
    """Lost: tasks of clients that do not care would have no limits at all."""
    runner = start_runner(ROOMY | {"default_resources": {"cores": 2, "memory_mb": 77}})
    unit = started(runner)
    assert unit_property(unit, "CPUQuotaPerSecUSec") == "2s"
    assert unit_property(unit, "MemoryMax") == str(77 << 20)
    unit = started(runner, resources={"cores": 1})
    assert unit_property(unit, "CPUQuotaPerSecUSec") == "1s"
    assert unit_property(unit, "MemoryMax") == str(77 << 20)


@pytest.mark.kernel
@pytest.mark.serial
def test_half_a_core_is_half_a_core(runner: Runner) -> None:
    """Lost: CPU limits and the figures by which tasks are billed."""
    spin = "import time\nstart, before = time.monotonic(), time.process_time()\n"
    spin += "while time.process_time() < before + 1: pass\nprint(time.monotonic() - start)"
    attempt = runner.run([PYTHON, "-c", spin], resources={"cores": 0.5})
    assert attempt["succeeded"]
    assert float(attempt["output"]) >= 1.6  # by the clock: no upper bound, others are busy too
    assert 1 <= attempt["usage"]["cpu_time"] <= 1 + 0.25 * SLOWNESS  # python has to start first
    assert 0 < attempt["max_cpu"] <= 60


@pytest.mark.kernel
def test_memory_beyond_the_limit_is_an_oom_kill(runner: Runner) -> None:
    """Lost: the difference between a task that needs more memory and a broken one."""
    attempt = runner.run([PYTHON, "-c", GLUTTON], resources={"memory_mb": 64})
    assert (attempt["state"], attempt["result"]) == ("errored", "oom-kill")
    assert attempt["output"] == ""
    assert 32 << 20 <= attempt["max_rss"] <= 65 << 20
    assert attempt["usage"]["memory_peak"] == attempt["max_rss"]
    await_nothing_left(attempt["task_id"])


@pytest.mark.kernel
def test_a_grandchild_killed_for_memory_ends_the_task(runner: Runner) -> None:
    """Lost: builds whose compiler was killed would end as if nothing had happened, or hang."""
    script = f'{PYTHON} -c "{GLUTTON}"; echo went on; sleep infinity'
    attempt = runner.run(["sh", "-c", script], resources={"memory_mb": 64})
    assert (attempt["state"], attempt["result"]) == ("errored", "oom-kill")
    assert "survived" not in attempt["output"]
    await_nothing_left(attempt["task_id"])


@pytest.mark.kernel
def test_a_detached_process_killed_for_memory_ends_the_task(runner: Runner) -> None:
    """Lost: the same for a background process in a session of its own."""
    script = f'(setsid {PYTHON} -c "{GLUTTON}" &) ; exec sleep infinity'
    attempt = runner.run(["sh", "-c", script], resources={"memory_mb": 64})
    assert (attempt["state"], attempt["result"]) == ("errored", "oom-kill")


@pytest.mark.kernel
def test_memory_within_the_limit_is_granted(runner: Runner) -> None:
    """Lost: tasks would be killed below what they were promised."""
    attempt = runner.run([PYTHON, "-c", GLUTTON], resources={"memory_mb": 300})
    assert (attempt["result"], attempt["output"]) == ("success", "survived\n")
    assert 200 << 20 <= attempt["max_rss"] <= 300 << 20


@pytest.mark.kernel
def test_a_task_of_one_process_runs_but_cannot_fork(runner: Runner) -> None:
    """Lost: fork bombs, or every task with a tight limit."""
    alone = runner.run(["echo", "alone"], tasks_max=1)
    assert (alone["result"], alone["output"]) == ("success", "alone\n")
    assert alone["usage"]["tasks_peak"] == 1
    forks = "import os\ntry: os.fork()\nexcept BlockingIOError: print('refused')"
    assert runner.run([PYTHON, "-c", forks], tasks_max=1)["output"] == "refused\n"
    assert runner.run([PYTHON, "-c", forks], tasks_max=2)["output"] == ""


@pytest.mark.kernel
def test_a_fork_bomb_stays_within_its_task(runner: Runner) -> None:
    """Lost: one broken script would take the machine down."""
    bomb = "import os\nwhile True:\n try: os.fork()\n except OSError: pass"
    attempt = runner.run(
        [PYTHON, "-c", bomb], tasks_max=20, timeout=1, grace=1, resources={"cores": 0.5}
    )
    assert attempt["result"] == "timeout"
    await_nothing_left(attempt["task_id"])


PROPERTIES = {
    "CPUWeight": (250, "250"),
    "IOWeight": (42, "42"),
    "MemoryHigh": (50 << 20, str(50 << 20)),
    "MemoryLow": (1 << 20, str(1 << 20)),
    "AllowedCPUs": ("0", "0"),
    "IPAddressDeny": (["any"], "0.0.0.0/0 ::/0"),
    "IPAddressAllow": (["localhost"], "127.0.0.0/8 ::1/128"),
}


@pytest.mark.kernel
def test_properties_reach_systemd(runner: Runner) -> None:
    """Lost: finer control, silently: a property that is accepted but not applied."""
    unit = started(runner, properties={name: given for name, (given, _) in PROPERTIES.items()})
    for name, (_, expected) in PROPERTIES.items():
        in_force = unit_property(unit, name)
        assert sorted(in_force.split()) == sorted(expected.split()), name


def notes_on(runner: Runner, properties: dict[str, object]) -> list[str]:
    """The properties that the attempt says are without effect, while its task runs."""
    id = runner.submit(["sleep", "infinity"], properties=properties)
    await_that(lambda: runner.attempt(id)["start_time"], what=f"the start of {id}")
    notes = runner.attempt(id)["executor"]
    runner.delete(f"/api/v1/task/{id}", params={"wait": 30})
    lists = [note.partition(": ")[2] for note in notes if note.startswith("without effect on this host: ")]
    return sorted(re.findall(r"(\w+) \([^)]+\)", " ".join(lists)))


@pytest.mark.kernel
def test_a_property_that_has_no_effect_on_this_host_is_named(runner: Runner) -> None:
    """Lost: a limit that was asked for, got in silence, and is not there."""
    weak = [] if UNIFIED else ["AllowedCPUs", "MemoryHigh", "MemoryLow"]
    properties = {name: given for name, (given, _) in PROPERTIES.items()}
    assert [name for name in notes_on(runner, properties) if name != "IOWeight"] == weak
    assert notes_on(runner, {"CPUWeight": 250, "IPAddressDeny": ["any"]}) == []


@pytest.fixture
def device() -> Iterator[str]:
    """A node for some block device of the host, which a bed has none of."""
    numbers = next((path.read_text() for path in Path("/sys/class/block").glob("vd*/dev")), None)
    if not numbers:
        pytest.skip("this host has no block device to limit")
    major, minor = map(int, numbers.split(":"))
    path = Path("/dev/daggyr-test-disk")
    os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(major, minor))
    try:
        yield str(path)
    finally:
        path.unlink()


@pytest.mark.kernel
@pytest.mark.serial
def test_a_limit_on_a_device_that_is_not_there_is_named(runner: Runner, device: str) -> None:
    """Lost: the disk that others need, to a task whose limit is on /dev/sda and whose disk is /dev/vda."""
    absent = "/dev/daggyr-test-no-disk"
    assert notes_on(runner, {"IOReadBandwidthMax": {absent: "1M"}}) == ["IOReadBandwidthMax"]
    assert notes_on(runner, {"IOReadBandwidthMax": {device: "1M"}, "IOWriteBandwidthMax": {device: "2M"}}) == []
    assert notes_on(runner, {"IOReadBandwidthMax": {device: "1M"}, "IOWriteBandwidthMax": {absent: "2M"}}) == [
        "IOWriteBandwidthMax"
    ]
    assert notes_on(runner, {"IOReadBandwidthMax": {device: "1M", absent: "1M"}}) == ["IOReadBandwidthMax"]
    iops = {"IOReadIOPSMax": {device: 500}, "IOWriteIOPSMax": {device: 500}}
    assert notes_on(runner, iops) == ([] if UNIFIED else sorted(iops))


@pytest.mark.parametrize(
    "properties",
    [
        {"ExecStart": "/bin/sh"},
        {"User": "root"},
        {"Slice": "system.slice"},
        {"MemoryMax": 1 << 40},
        {"Delegate": True},
        {"BindsTo": "dbus.service"},
        {"KillMode": "none"},
        {"DeviceAllow": "/dev/sda rw"},
    ],
    ids=lambda properties: next(iter(properties)),
)
def test_properties_that_could_do_harm_are_refused(
    runner: Runner, properties: dict[str, object]
) -> None:
    """Lost: a client could leave the slice, lift its limits or meddle with other units."""
    answer = runner.post("/api/v1/task", json={"command": ["true"], "properties": properties})
    assert answer.status_code == 400
    assert answer.json()["field"] == f"/properties/{next(iter(properties))}"
    assert runner.get("/api/v1/tasks").json()["tasks"] == []


@pytest.mark.kernel
def test_usage_is_of_the_whole_task(runner: Runner) -> None:
    """Lost: figures that leave out the children, where the work is done."""
    spin = "import time\nwhile time.process_time() < 0.4: pass"
    script = f"{PYTHON} -c '{spin}' & {PYTHON} -c '{spin}' & wait"
    attempt = runner.run(["sh", "-c", script], resources={"cores": 2})
    usage = attempt["usage"]
    assert 0.8 <= usage["cpu_time"] < 0.8 + SLOWNESS
    assert 3 <= usage["tasks_peak"] <= 4 or usage["tasks_peak"] == 1  # old kernels do not count
    assert any("CPUQuota=200% MemoryMax=512M" in note for note in attempt["executor"])
