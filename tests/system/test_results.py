# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long finished tasks are remembered, and what they cost meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bedlib import PYTHON, ROOMY, SLOWNESS, Runner, await_that, open_fds, open_folder, timestamp

IN_MEMORY = 64 * 1024


def known(runner: Runner) -> list[str]:
    return [task["task_id"] for task in runner.get("/api/v1/tasks").json()["tasks"]]


def files_of(runner: Runner) -> list[str]:
    """The files in which the daemon keeps output."""
    targets = open_fds(runner.main_pid).values()
    return [target for target in targets if "/daggyr" in target and "deleted" in target]


def writer(n: int) -> list[str]:
    """Writes n bytes to each stream."""
    return [PYTHON, "-c", f"import os\nfor fd in 1, 2: os.write(fd, b'%d' % fd * {n})"]


def test_the_results_that_ended_first_go_first(start_runner: Callable[..., Runner]) -> None:
    """Lost: a long task's result would be gone the moment it ends, because it was submitted early."""
    runner = start_runner(ROOMY | {"results_max": 2})
    gate = open_folder() / "gate"
    long = runner.submit(["sh", "-c", f"until [ -e {gate} ]; do sleep 0.02; done"])
    short = [runner.run(["true"])["task_id"] for _ in range(3)]
    assert known(runner) == [long, *short[1:]]
    gate.touch()
    assert runner.wait(long)["succeeded"]
    assert known(runner) == [long, short[2]]


def test_a_result_lives_for_its_time(start_runner: Callable[..., Runner]) -> None:
    """Lost: clients that ask a little later, or memory for results that nobody asks for."""
    ttl = 1.5 * SLOWNESS
    runner = start_runner(ROOMY | {"result_ttl": ttl})
    id = runner.submit(["sleep", f"{ttl + 0.5}"])
    attempt = runner.run(["true"])
    early = attempt["task_id"]
    await_that(lambda: early not in known(runner), what="the result to go")
    assert 0.95 * ttl <= time.time() - timestamp(attempt["stop_time"]) < ttl + 2 * SLOWNESS
    assert runner.get(f"/api/v1/task/{early}").status_code == 404
    assert runner.wait(id)["succeeded"]  # the clock starts at the end
    assert known(runner) == [id]


@pytest.mark.parametrize("limit", [{"results_max": 0}, {"result_ttl": 0}], ids=["results_max", "result_ttl"])
def test_who_waits_hears_of_the_end_also_where_nothing_is_kept(
    start_runner: Callable[..., Runner], limit: dict[str, int]
) -> None:
    """Lost: on such a runner no client could ever learn a result."""
    runner = start_runner(ROOMY | limit)

    def hear(n: int) -> None:
        id = runner.submit(["sh", "-c", f"sleep {2 * SLOWNESS}; echo {n}"])
        assert runner.wait(id)["output"] == f"{n}\n"
        assert runner.get(f"/api/v1/task/{id}").status_code == 404

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(hear, range(10)))
    assert known(runner) == []


def test_live_tasks_are_never_forgotten(start_runner: Callable[..., Runner]) -> None:
    """Lost: tasks that nobody can ask for or stop any more."""
    runner = start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 4096}, "results_max": 1})
    running = runner.submit(["sleep", "infinity"])
    waiting = runner.submit(["true"], resources={"cores": 2})
    ended = [runner.run(["true"])["task_id"] for _ in range(5)]
    assert known(runner) == [running, waiting, ended[-1]]


def test_the_id_of_a_forgotten_result_is_free(start_runner: Callable[..., Runner]) -> None:
    """Lost: clients whose ids come again after a while."""
    runner = start_runner(ROOMY | {"results_max": 1})
    first = runner.run(["echo", "1"])["task_id"]
    runner.run(["true"])
    assert runner.wait(runner.submit(["echo", "2"], first))["output"] == "2\n"


def test_small_output_costs_no_descriptor_and_large_no_memory(start_runner: Callable[..., Runner]) -> None:
    """Lost: either limit would be reached long before the documented one."""
    runner = start_runner(ROOMY)
    small = runner.run(writer(IN_MEMORY))
    assert len(small["output"]) == IN_MEMORY
    assert files_of(runner) == []
    large = runner.run(writer(IN_MEMORY + 1))
    assert len(large["error"]) == IN_MEMORY + 1
    assert len(files_of(runner)) == 2
    assert not list(Path("/var/cache/daggyr").iterdir())
    assert runner.delete(f"/api/v1/task/{large['task_id']}").status_code == 204
    assert files_of(runner) == []


# The kernel holds the descriptors that a user's processes have under way to each other to the limit of whoever sends
# the next one (unix(7), ETOOMANYREFS): with few of its own, this runner would be held up by those of its neighbours,
# which have the same account.
@pytest.mark.serial
def test_large_results_do_not_use_up_the_descriptors(start_runner: Callable[..., Runner]) -> None:
    """Lost: as in Daggy's own history, the runner would die silently when it has run out of them."""
    limit, n_tasks = 200, 120
    runner = start_runner(ROOMY, properties={"LimitNOFILE": str(limit)})
    ids = []
    for n in range(n_tasks):
        attempt = runner.run(writer(IN_MEMORY + 1 + n), resources={"cores": 0.5, "memory_mb": 64})
        assert (attempt["result"], attempt["output_truncated"]) == ("success", False)
        assert attempt["error"] == "2" * (IN_MEMORY + 1 + n)
        assert len(open_fds(runner.main_pid)) < limit / 2
        ids.append(attempt["task_id"])
    kept = known(runner)
    assert kept == ids[-len(kept) :]
    assert limit / 4 - 4 <= 2 * len(kept) <= limit / 4
    for id in kept:
        output = runner.get(f"/api/v1/task/{id}/output").content
        assert output == b"1" * (IN_MEMORY + 1 + ids.index(id))


def test_a_result_that_goes_while_it_is_read_ends_the_reading_only(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: a slow reader of a forgotten result would crash the runner, or keep its file for ever."""
    runner = start_runner(ROOMY)
    size = 8_000_000
    id = runner.run([PYTHON, "-c", f"print('x' * {size})"], resources={"memory_mb": 200})["task_id"]
    with runner.get(f"/api/v1/task/{id}/output", stream=True) as reader:
        piece = reader.raw.read(1000)
        assert runner.http.delete(f"{runner.url}/api/v1/task/{id}").status_code == 204
        try:
            while more := reader.raw.read(1 << 20):
                piece += more
        except Exception:  # broken off in the middle
            pass
    assert set(piece) <= set(b"x\n") and len(piece) <= size + 1
    await_that(lambda: files_of(runner) == [], what="its file to be closed")
    assert runner.run(["true"])["succeeded"]


def test_a_stop_that_comes_too_late_can_keep_the_result(runner: Runner) -> None:
    """Lost: results that a queue had not fetched yet when it wanted the task stopped."""
    id = runner.submit(["echo", "kept"])
    runner.wait(id)
    late = runner.delete(f"/api/v1/task/{id}", params={"keep": "true"})
    assert late.status_code == 200 and late.json()["output"] == "kept\n"
    assert runner.attempt(id)["output"] == "kept\n"
    assert runner.delete(f"/api/v1/task/{id}", params={"keep": "maybe"}).status_code == 400
    assert runner.delete(f"/api/v1/task/{id}").status_code == 204
