# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/recipes.md, run as it stands there, but for names of hosts and for numbers."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bedlib import ROOMY, SLOWNESS, Queue, Runner, await_that, open_folder, run, task_id, unit_property
from ctllib import ctl, environment, good

pytestmark = pytest.mark.plain

Starter = Callable[..., Any]
DOCUMENT = Path(__file__).resolve().parents[2] / "docs/recipes.md"


def recipe(title: str) -> list[str]:
    """The blocks of code under a title."""
    section = DOCUMENT.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^```\w+\n(.*?)^```$", section, re.M | re.S)


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def script(daemon: Runner, text: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", text, "sh", *arguments], env=environment(daemon), text=True, cwd=cwd,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=300 * SLOWNESS,
    )


@pytest.fixture
def pool(start_runner: Starter, start_queue: Starter) -> Queue:
    """A queue with two runners."""
    runners = {name: start_runner(ROOMY) for name in ("a", "b")}
    queue: Queue = start_queue(runners)
    queue.await_leases(*runners)
    return queue


def test_make_on_a_pool(pool: Queue) -> None:
    """Lost: the recipe for GNU make."""
    folder = open_folder()
    (folder / "Makefile").write_text(recipe("GNU make on a pool")[0])
    for name in ("a", "b"):
        (folder / f"{name}.in").write_text("2\n1\n")
    made = subprocess.run(
        ["make", "-j", "50"], env=environment(pool), cwd=folder, text=True, capture_output=True, timeout=120 * SLOWNESS
    )
    assert made.returncode == 0, made
    assert (folder / "b.out").read_text() == "1\n2\n"
    assert good(pool, "list", "-o", "name").count("\n") == 2
    (folder / "a.in").unlink()
    (folder / "a.out").unlink()
    assert subprocess.run(["make"], env=environment(pool), cwd=folder, capture_output=True).returncode == 2


def test_parallel_on_a_pool(pool: Queue) -> None:
    """Lost: the recipe for xargs -P and parallel."""
    by_xargs, by_parallel = recipe("parallel on a pool")
    done = script(pool, by_xargs, cwd=open_folder())
    assert done.returncode == 0, done
    assert sorted(done.stdout.splitlines()) == ["done: one", "done: three", "done: two"]
    done = script(pool, by_parallel, cwd=open_folder())
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == ["done: one", "done: two", "done: three"]


def test_a_job_each_night(pool: Queue) -> None:
    """Lost: the recipe for a timer."""
    service, timer = recipe("A job each night")
    name = f"nightly-{task_id().replace('.', '-')}"
    folder = Path("/run/systemd/system")
    service = replaced(service, ("--host HOST", f"--host {pool.url}"), ("nightly-%H", f"{name}-%H"))
    timer = replaced(timer, ("OnCalendar=*-*-* 02:00", "OnActiveSec=0"), ("RandomizedDelaySec=10min", ""))
    (folder / f"{name}.service").write_text(service)
    (folder / f"{name}.timer").write_text(timer)
    try:
        run("systemctl", "start", f"{name}.timer")  # which systemd has never heard of: no daemon-reload
        ended = lambda: unit_property(f"{name}.service", "ExecMainExitTimestamp")
        await_that(ended, timeout=60, what="the job")
        assert unit_property(f"{name}.service", "Result") == "success"
        listed = [id for id in good(pool, "list", "-o", "name").split() if id.startswith(name)]
        assert len(listed) == 1 and pool.attempt(listed[0])["output"] == "report\n"
        run("systemctl", "start", f"{name}.service")  # the next night
        assert unit_property(f"{name}.service", "Result") == "success"
    finally:
        run("systemctl", "stop", f"{name}.timer", f"{name}.service", check=False)
        for path in folder.glob(f"{name}.*"):
            path.unlink()


def test_a_ci_runner(pool: Queue) -> None:
    """Lost: the recipe for CI."""
    folder = open_folder()
    text = replaced(recipe("A CI runner")[0], (" -p IPAddressDeny=any", ""))
    (folder / "run-job").write_text(text)
    (folder / "run-job").chmod(0o755)
    job = task_id("job").replace(".", "-")

    def start(job: str, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(folder / "run-job"), job, *command], env=environment(pool), text=True, stdout=subprocess.PIPE
        )

    with start(job, "sh", "-c", "echo CI=$CI; exit 4") as process:
        assert process.stdout and process.stdout.read() == "CI=true\n"
    assert process.returncode == 4
    assert f"ci-{job}" in good(pool, "list", "-l", f"job={job}", "-l", "ci=yes")
    with start(f"{job}-2", "sh", "-c", "echo up; exec sleep 100") as process:
        assert process.stdout and process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
    assert pool.attempt(f"ci-{job}-2")["result"] == "stopped"


def test_what_keeps_a_job_off_the_network_is_taken(start_runner: Starter) -> None:
    """Lost: the same with its limit, which not each machine of a test has the means for."""
    assert "-p IPAddressDeny=any" in recipe("A CI runner")[0]
    runner = start_runner(ROOMY)
    done = ctl(runner, "submit", "-p", "IPAddressDeny=any", "--", "true")
    assert done.returncode == 0 or "IPAddressDeny" in done.stderr


def test_many_parameters(pool: Queue) -> None:
    """Lost: the recipe for a batch."""
    folder, name = open_folder(), task_id("sweep")
    simulate = folder / "simulate"
    simulate.write_text("#!/bin/sh\ncase $2 in 7) exit 1 ;; 9) mkdir tried 2>/dev/null && exit 1 ;; esac\necho $2\n")
    simulate.chmod(0o755)
    text = replaced(
        recipe("Ten thousand parameters")[0],
        ("seq 1 10000", "seq 1 60"), ("--id sweep", f"--id {name}"), ("run=sweep", f"run={name}"),
        ("-- ./simulate", f"-C {folder} -- ./simulate"),
    )
    done = script(pool, text, cwd=folder)
    assert done.returncode == 0, done
    assert done.stdout.startswith("some have failed\n")
    assert re.search(r"completed +success +59\n", done.stdout)
    assert (folder / "failed").read_text() == f"{name}-7\n"
    assert len(pool.attempt(f"{name}-7")["attempts"]) == 2 and len(pool.attempt(f"{name}-9")["attempts"]) == 1
    ids = (folder / "ids").read_text().split()
    assert ids == [f"{name}-{n}" for n in range(1, 61)]
    assert len((folder / "ends").read_text().splitlines()) == 60
    outputs = script(pool, "xargs -n 100 daggyctl output < ids", cwd=folder).stdout.split()
    assert outputs == [str(n) for n in range(1, 61) if n != 7]


def test_gpus(start_runner: Starter) -> None:
    """Lost: the recipe for devices."""
    folder = open_folder("/run")
    devices = {"gpu": {"items": [{"id": "3", "environment": {"CUDA_VISIBLE_DEVICES": "uuid-3"}}]}}
    runner = start_runner(ROOMY | {"devices": devices})
    done = script(runner, recipe("GPUs")[0], cwd=folder)
    assert (done.returncode, done.stdout) == (0, "mine is 3 of uuid-3\n"), done


@pytest.mark.serial
def test_limits_for_a_team(start_runner: Starter) -> None:
    """Lost: the recipe for slices."""
    first, second = recipe("Limits for a team")
    runner = start_runner({})
    try:
        assert script(runner, first, cwd=Path("/")).returncode == 0

        def is_limited() -> bool:
            total = runner.get("/api/v1/capacity").json()["total"]
            return total["cores"] == 1 and total["memory_mb"] <= 768

        await_that(is_limited, timeout=30, what="the capacity that is left")
        done = script(runner, second, cwd=Path("/"))
        assert done.returncode == 0 and "completed" in done.stdout, done
    finally:
        run("systemctl", "revert", "daggyr.slice", check=False)
        run("systemctl", "set-property", "--runtime", "daggyr.slice", "CPUQuota=", "MemoryMax=infinity", check=False)
        shutil.rmtree("/etc/systemd/system.control/daggyr.slice.d", ignore_errors=True)
        run("systemctl", "daemon-reload")


def test_a_script_that_waits(pool: Queue) -> None:
    """Lost: the recipe for scripts."""
    text, folder = recipe("A script that waits for many")[0], open_folder()
    done = script(pool, text, task_id("run"), cwd=folder)
    assert done.returncode == 0, done
    assert done.stdout.split("\n")[-4:] == ["build", "test", "docs", ""]
    failing = replaced(text, ('"echo $name"', '"exit 5"'))
    done = script(pool, failing, name := task_id("run"), cwd=open_folder())
    assert done.returncode == 5, done
    assert len([line for line in done.stdout.splitlines() if "errored" in line and "exit 5" in line]) == 3, name


def test_every_recipe_is_tested() -> None:
    """Lost: a recipe that has never been tried."""
    titles = re.findall(r"^## (.*)$", DOCUMENT.read_text(), re.M)
    source = Path(__file__).read_text()
    assert titles and all(f'recipe("{title}")' in source for title in titles)
