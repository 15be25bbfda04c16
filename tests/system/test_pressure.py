# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tasks that wait for the memory pressure to go down, with pressure as a program makes it that needs more memory than
it has: it reads a file again and again that does not fit."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bedlib import PYTHON, ROOMY, SLOWNESS, Queue, Runner, await_that, open_folder, run, task_id

Starter = Callable[..., Any]

FOLDERS = [Path(os.environ.get("DAGGYR_BUILD", "/var/lib")), Path(__file__).parents[2] / "build"]
"""Where a file may be on a disk, and no package is made of it. All else of a bed may be in memory, under an overlay."""

FILES = [Path("/sys/fs/cgroup", name, "memory.pressure") for name in ("", "unified")]

pytestmark = [
    pytest.mark.serial,  # the slice's pressure is that of everybody's tasks
    pytest.mark.skipif(not any(map(Path.exists, FILES)), reason="this kernel tells no pressure (PSI)"),
]

CAREFUL = ROOMY | {"memory_pressure_max_percent": 1}
SMALL = {"cores": 0.1, "memory_mb": 32}

READ = """
import mmap, random, sys
file = open(sys.argv[1], "rb")
memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
while True:
    memory[random.randrange(len(memory))]
"""


def drop_cached(path: Path) -> bool:
    """Has the kernel forget what it has cached of the file; false where the cache is all there is of it."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
        return False


def fill(file: Any) -> None:
    for _ in range(100):
        file.write(os.urandom(1 << 20))
    file.flush()
    os.fsync(file.fileno())
    os.fchmod(file.fileno(), 0o644)


@pytest.fixture(scope="module")
def large_file() -> Iterator[Path]:
    """One on a disk, which tasks see, too."""
    for folder in filter(Path.is_dir, FOLDERS):
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".pressure-") as file:
            fill(file)
            if not drop_cached(Path(file.name)):
                continue
            path = open_folder() / "large"
            path.touch()
            run("mount", "--bind", file.name, str(path))
            yield path
            run("umount", str(path))
            return
    pytest.skip("there is no disk to read from")


def presser(large_file: Path) -> list[str]:
    """A command that makes pressure. What of the file an earlier one left in the cache is charged to nobody who runs,
    and to read it again would be none: it is dropped."""
    drop_cached(large_file)
    return [PYTHON, "-c", READ, str(large_file)]


def pressure(runner: Runner) -> Any:
    return runner.get("/api/v1/capacity").json()["pressure"]


def await_calm(runner: Runner) -> None:
    await_that(lambda: pressure(runner)["memory_percent"] < 1, timeout=60, what="no pressure")


def press(runner: Runner, large_file: Path) -> str:
    """Submits a task that makes pressure, and waits until that is felt."""
    await_calm(runner)
    id = runner.submit(presser(large_file), resources={"cores": 1, "memory_mb": 32})
    await_that(lambda: pressure(runner)["holding"] or runner.attempt(id)["result"], timeout=60, what="pressure")
    assert runner.attempt(id)["state"] == "running", runner.attempt(id)
    return id


def metric(runner: Runner, name: str) -> float:
    lines = [line.split() for line in runner.get("/metrics").text.splitlines()]
    return float(next(line[1] for line in lines if line[0] == name))


@pytest.mark.plain
def test_tasks_wait_until_it_is_over(start_runner: Starter, large_file: Path) -> None:
    """Lost: a host, to more and more tasks that stand in one another's way."""
    runner = start_runner(CAREFUL)
    pressing = press(runner, large_file)
    waiting = [runner.submit(["true"], resources=SMALL, when_full=full) for full in ("queue", "reject", "queue")]
    assert runner.attempt(waiting[0], wait=3)["state"] == "queued"
    assert [runner.attempt(id)["state"] for id in waiting] == ["queued"] * 3
    assert pressure(runner)["memory_max_percent"] == 1 and pressure(runner)["memory_percent"] >= 1
    assert metric(runner, "daggyr_starts_held") == 1 and metric(runner, "daggyr_memory_pressure_ratio") >= 0.01
    assert runner.get("/ready").status_code == 200
    show = ["daggyctl", "--host", runner.url, "capacity"]
    said = subprocess.run(show, stdout=subprocess.PIPE, text=True, check=True, timeout=60 * SLOWNESS).stdout
    assert "tasks wait until it is below 1%" in said
    revision = runner.get("/api/v1/capacity").json()["revision"]
    runner.upgrade()  # which goes on to hold them, and does not tell so again
    assert pressure(runner)["holding"] and runner.get("/api/v1/capacity").json()["revision"] == revision
    assert [runner.attempt(id)["state"] for id in waiting] == ["queued"] * 3
    assert runner.journal().count("are held: memory pressure in daggyr.slice") == 1
    runner.delete(f"/api/v1/task/{pressing}?wait=30")
    # The figure goes down slowly; meanwhile they run one by one, since there is nobody left to wait for.
    attempts = [runner.wait(id) for id in waiting]
    assert [attempt["result"] for attempt in attempts] == ["success"] * 3
    assert attempts == sorted(attempts, key=lambda attempt: str(attempt["start_time"]))
    await_calm(runner)
    await_that(lambda: metric(runner, "daggyr_starts_held") == 0, what="the end of it")


def test_a_reload_ends_the_wait(start_runner: Starter, large_file: Path) -> None:
    """Lost: all tasks in running, to a threshold that was too low."""
    runner = start_runner(CAREFUL)
    press(runner, large_file)
    waiting = runner.submit(["true"], resources=SMALL)
    assert runner.attempt(waiting, wait=1)["state"] == "queued"
    runner.reconfigure(memory_pressure_max_percent=0)
    assert runner.wait(waiting)["succeeded"]
    assert pressure(runner) is None
    assert metric(runner, "daggyr_starts_held") == 0
    assert "daggyr_memory_pressure_ratio" not in runner.get("/metrics").text


@pytest.mark.plain
def test_a_queue_goes_elsewhere(start_runner: Starter, start_queue: Starter, large_file: Path) -> None:
    """Lost: the time of tasks that another worker would have run at once."""
    runner, other = start_runner(CAREFUL), start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 2048}})
    queue: Queue = start_queue({"w": runner, "other": other})
    queue.await_leases("w", "other")
    await_calm(runner)
    fields = {"resources": {"cores": 4, "memory_mb": 32}}  # only one worker has so much
    pressing = queue.submit(presser(large_file), **fields)
    await_that(lambda: queue.workers()["w"]["capacity"]["free"]["cores"] == 0, timeout=60, what="word of it")
    attempts = [queue.run(["true"], resources=SMALL) for _ in range(5)]
    assert [attempt["worker"] for attempt in attempts] == ["other"] * 5
    waiting = queue.submit(["true"], **fields)
    assert queue.attempt(waiting, wait=1)["state"] == "queued"
    queue.delete(f"/api/v1/task/{pressing}?wait=30")
    assert queue.wait(waiting)["worker"] == "w"


def test_where_nothing_is_told_tasks_start_and_the_log_says_so(start_runner: Starter) -> None:
    """Lost: all tasks, on kernels that do not watch the pressure; or the administrator's trust in the setting."""
    hidden = [str(path.parent) for path in FILES if path.exists()]
    runner = start_runner(CAREFUL, {"InaccessiblePaths": hidden})
    assert runner.run(["true"])["succeeded"]
    assert pressure(runner) is None
    runner.reconfigure(results_max=9)
    assert runner.journal().count("memory_pressure_max_percent has no effect") == 1


@pytest.mark.parametrize("value", [-1, 101, 1.5, "20"])
def test_a_threshold_that_is_none_is_refused(tmp_path: Path, value: Any) -> None:
    """Lost: the meaning of a mistyped setting."""
    path = tmp_path / "daggyr.json"
    path.write_text(json.dumps({"memory_pressure_max_percent": value}))
    assert "/memory_pressure_max_percent" in run("daggyr", "--check", "--config", str(path), check=False, stderr=-2)


def test_by_default_nobody_looks(start_runner: Starter) -> None:
    """Lost: sleep, on hosts that want none of it."""
    runner = start_runner()
    assert pressure(runner) is None
    assert runner.post(f"/api/v1/task/{task_id()}", json={"command": ["true"]}).status_code == 202
