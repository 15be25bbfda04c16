# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a task has used, as its attempt tells it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from bedlib import (
    PYTHON,
    ROOMY,
    SLOWNESS,
    Runner,
    await_that,
    cgroup_folder,
    load,
    open_folder,
    run,
    task_id,
)

MB = 1 << 20
SLICE = "daggyr.slice"

pytestmark = pytest.mark.kernel


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


def burn(seconds: float) -> list[str]:
    """A command that uses so much CPU time, all in all, if that is more than its start takes."""
    script = f"import time\nwhile time.process_time() < {seconds}: pass"
    return [PYTHON, "-S", "-E", "-c", script]


def keep_slice(runner: Runner) -> str:
    """systemd removes a slice in which nothing is left, and its counters with it: this task stays."""
    id = runner.submit(["sleep", "infinity"], resources={"cores": 0.01, "memory_mb": 16})
    await_that(lambda: runner.attempt(id)["start_time"], what="the slice")
    return id


def slice_cpu_seconds() -> float:
    """The slice's own counter, of all scopes since it is there."""
    v1 = Path("/sys/fs/cgroup/cpuacct", SLICE, "cpuacct.usage")
    if v1.exists():
        return int(v1.read_text()) / 1e9
    for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):  # v2 counts also without a controller
        v2 = Path(top, SLICE, "cpu.stat")
        if v2.exists():
            words = v2.read_text().split()
            return int(words[words.index("usage_usec") + 1]) / 1e6
    pytest.skip("no hierarchy counts the CPU time of slices here")


@pytest.fixture
def disk() -> Generator[tuple[str, Path], None, None]:
    """A block device of its own, and a file system on it that everybody may write to."""
    image, folder = Path("/run", task_id("disk")), Path("/run", task_id("mnt"))
    if not shutil.which("mkfs.ext4"):
        pytest.skip("no mkfs.ext4 here")
    if not Path("/dev/loop-control").exists():  # a bed in namespaces has only what it needs
        run("mknod", "/dev/loop-control", "c", "10", "237")
        for i in range(64):
            run("mknod", f"/dev/loop{i}", "b", "7", str(i))
    run("truncate", "--size=64M", str(image))
    run("mkfs.ext4", "-q", str(image))
    folder.mkdir()
    try:
        # As an option of mount the loop device goes with the mount, whatever becomes of us.
        run("mount", "-o", "loop", str(image), str(folder))
    except subprocess.CalledProcessError:
        pytest.skip("this kernel gives us no loop device")
    folder.chmod(0o777)
    yield run("findmnt", "--noheadings", "--output", "SOURCE", str(folder)).strip(), folder
    await_that(lambda: not subprocess.call(["umount", str(folder)]), what="the disk to be free")
    image.unlink()


def test_a_task_of_5_ms_has_figures(runner: Runner) -> None:
    """Lost: the costs of short tasks, which together may be most of the work."""
    script = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done"
    attempts = [runner.run(["sh", "-c", script]) for _ in range(20)]
    for attempt in attempts:
        usage = attempt["usage"]
        assert 0.001 <= usage["cpu_time"], attempt
        assert 100_000 <= usage["memory_peak"] < 64 * MB, attempt
        assert attempt["max_rss"] == usage["memory_peak"], attempt
        assert 1 <= usage["tasks_peak"] <= 2, attempt
    # What a virtual machine's host takes away from a task in the middle looks like the task's own time; and what it
    # takes away from daggyr, like a longer or a shorter run.
    assert median(attempt["usage"]["cpu_time"] for attempt in attempts) < 0.1 * SLOWNESS, attempts
    assert 1 <= median(attempt["max_cpu"] for attempt in attempts) <= 1000, attempts


@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_cpu_time_is_that_of_the_work(runner: Runner, seconds: float) -> None:
    """Lost: bills and plans that are made of these figures."""
    attempt = runner.run(burn(seconds), resources={"cores": 2})
    assert seconds <= attempt["usage"]["cpu_time"] < seconds * 1.05 + 0.1 * SLOWNESS


def test_cpu_time_is_zero_for_a_task_that_sleeps(runner: Runner) -> None:
    """Lost: telling tasks that wait from those that work."""
    attempts = [runner.run(["sleep", "1"]) for _ in range(3)]
    assert median(attempt["usage"]["cpu_time"] for attempt in attempts) < 0.05 * SLOWNESS, attempts
    assert median(attempt["max_cpu"] for attempt in attempts) <= 5 * SLOWNESS, attempts


def test_cpu_time_has_also_what_detached_processes_used(runner: Runner) -> None:
    """Lost: work could be hidden in daemons."""
    # Waits without a process of its own that would use more the longer it takes.
    script = f"(setsid {PYTHON} -c 'import time\nwhile time.process_time() < 0.5: pass\nprint(1)' > done &); "
    script = f"cd {open_folder()}; mkfifo done; {script} read line < done"
    attempt = runner.run(["sh", "-c", script])
    assert 0.5 <= attempt["usage"]["cpu_time"] < 0.5 + 0.3 * SLOWNESS


def test_cpu_time_has_also_what_unwaited_children_used(runner: Runner) -> None:
    """Lost: the work of servers and test runners that leave their children to the kernel."""
    script = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
reader, writer = os.pipe()
if os.fork() == 0:
    while time.process_time() < 0.5: pass
    os._exit(0)
os.close(writer)
os.read(reader, 1)
time.sleep(0.1)
"""
    attempt = runner.run([PYTHON, "-c", script])
    assert 0.5 <= attempt["usage"]["cpu_time"] < 0.5 + 0.3 * SLOWNESS


@pytest.mark.parametrize("megabytes", [20, 200])
def test_the_peak_of_memory_is_what_the_task_had_at_most(runner: Runner, megabytes: int) -> None:
    """Lost: knowing how much memory to ask for the next time."""
    script = f"x = bytearray({megabytes << 20}); del x; import time; time.sleep(0.1)"
    usage = runner.run([PYTHON, "-c", script])["usage"]
    assert megabytes * MB <= usage["memory_peak"] < (megabytes + 30 * SLOWNESS) * MB


def test_the_peak_of_memory_is_of_all_processes_together(runner: Runner) -> None:
    """Lost: the same for tasks of many processes, each of them small."""
    folder = open_folder()
    one = (
        f"{PYTHON} -c 'import os, time; x = bytearray({30 * MB}); open(f\"{folder}/{{os.getpid()}}\", \"w\")\n"
        f"while len(os.listdir(\"{folder}\")) < 3: time.sleep(0.02)'"
    )
    usage = runner.run(["sh", "-c", f"{one} & {one} & {one} & wait"])["usage"]
    assert 90 * MB <= usage["memory_peak"] < (90 + 60 * SLOWNESS) * MB


def test_the_peak_of_tasks_counts_processes_and_threads(runner: Runner) -> None:
    """Lost: knowing how many a task needs, before tasks_max stops it."""
    all_at_once = "sleep 60 & a=$!; sleep 60 & b=$!; sleep 60 & kill $a $b $!; wait"
    attempt = runner.run(["sh", "-c", all_at_once])
    peak = attempt["usage"]["tasks_peak"]
    folder = cgroup_folder(SLICE, "pids")
    if folder and not (folder / "pids.peak").exists():
        pytest.skip("this kernel has no pids.peak")
    assert peak == 4


def test_reads_and_writes_of_a_block_device_are_counted(
    runner: Runner, disk: tuple[str, Path]
) -> None:
    """Lost: finding the task that wears out the disk."""
    device, folder = disk
    # Since Linux 6.10, blkio of cgroup v1 counts only on devices for which somebody has a limit.
    limits = {f"IO{way}BandwidthMax": {device: "100G"} for way in ("Read", "Write")}
    write = f"dd if=/dev/zero of={folder}/file bs=1M count=8 oflag=direct"
    read = f"dd if={folder}/file of=/dev/null bs=1M count=4 iflag=direct"
    attempt = runner.run(["sh", "-c", f"{write} && {read}"], properties=limits)
    assert attempt["succeeded"], attempt
    assert 8 * MB <= attempt["usage"]["io_write_bytes"] < 10 * MB
    assert 4 * MB <= attempt["usage"]["io_read_bytes"] < 6 * MB
    runner.run(["true"])  # the program itself may have to be read from a disk
    idle = runner.run(["true"], properties=limits)["usage"]
    assert (idle["io_read_bytes"], idle["io_write_bytes"]) == (0, 0)


def test_figures_come_also_from_a_task_that_was_killed(runner: Runner) -> None:
    """Lost: the figures of just those tasks that went wrong."""
    script = f"""import time
x = bytearray({50 * MB})
while time.process_time() < 0.3: pass
print(flush=True)
while True: pass"""
    id = runner.submit([PYTHON, "-c", script], grace=0)
    await_that(lambda: runner.attempt(id)["output_bytes"], timeout=30, what="0.3 s of work")
    usage = runner.delete(f"/api/v1/task/{id}", params={"wait": 60}).json()["usage"]
    assert 0.3 < usage["cpu_time"] < 30 * SLOWNESS
    assert usage["memory_peak"] >= 50 * MB


def test_a_live_task_has_no_figures_yet(runner: Runner) -> None:
    """Lost: half of a figure would be taken for the whole."""
    id = runner.submit(["sleep", "infinity"])
    usage: dict[str, Any] = runner.attempt(id)["usage"]
    assert set(usage.values()) == {0}


@pytest.mark.plain  # a leader with sanitizers takes long to exit after its last reading
@pytest.mark.serial
def test_the_sum_over_1000_tasks_is_the_slices(
    start_runner: Callable[..., Runner], record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Lost: trust in the figures. What each task says would not add up to what the machine did."""
    n_tasks = load(1000)
    runner = start_runner({"capacity_overrides": {"cores": 3, "memory_mb": 65536}})
    keep_slice(runner)
    before = slice_cpu_seconds()
    batch = [{"task_id": task_id(), "command": burn(0.02)} for _ in range(n_tasks)]
    assert runner.post("/api/v1/tasks", json=batch).status_code == 200
    attempts = [runner.wait(task["task_id"], seconds=200) for task in batch]
    told = sum(attempt["usage"]["cpu_time"] for attempt in attempts)
    counted = slice_cpu_seconds() - before
    print(f"{n_tasks} tasks: {told:.3f} s in sum, {counted:.3f} s in {SLICE}, {100 * told / counted:.2f} %")
    record_testsuite_property("accounting_told_percent", round(100 * told / counted, 2))
    assert {attempt["result"] for attempt in attempts} == {"success"}
    assert told == pytest.approx(counted, rel=0.05)
