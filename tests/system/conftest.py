# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of the system tests; what they are made of is in bedlib.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any

import pytest

import bedlib
from bedlib import Queue, Runner
from clusterlib import Cluster, Member, StoredQueue
from postgreslib import Pair, Postgres
from proxylib import Proxy
from upgradelib import Upgradable

# A sanitizer adds nothing to what no daemon of ours has a part in, or only as it was started.
collect_ignore = ["test_bed.py", "test_login.py"] if os.environ.get("DAGGYR_SANITIZED") else ["test_leaks.py"]

collect_ignore_glob = ["test_cluster*.py"]  # a part of their own, which names them

if os.environ.get("DAGGYR_TEST_SET", "all") != "all":  # a browser is installed where all tests run, and only there
    collect_ignore.append("test_ui_page.py")

RUNNERS = pytest.StashKey[list[Any]]()
"""What has a journal that a failure is to show."""


def pytest_configure(config: pytest.Config) -> None:
    for marker in (
        "serial: changes what all tests share, so it runs alone",
        "kernel: another kernel or version of cgroups may make a difference, so the virtual machine runs it too",
        "local: looks into the file in which a queue has its tasks",
        "plain: not for sanitizers, as it measures, waits most of its time, needs what they take, or repeats at length what "
        "others do once",
    ):
        config.addinivalue_line("markers", marker)


@pytest.fixture(scope="session", autouse=True)
def sanitizers() -> None:
    """Has every service started from now on, daggyr among them, run with strict sanitizers."""
    if os.environ.get("DAGGYR_SANITIZED"):
        bedlib.run("systemctl", "set-environment", *bedlib.SANITIZER_OPTIONS)


@pytest.fixture
def start_runner(request: pytest.FixtureRequest) -> Generator[Callable[..., Runner], None, None]:
    """Starts a Runner with the arguments given, as many as wanted."""
    runners = request.node.stash.setdefault(RUNNERS, [])

    def start(*arguments: Any, **named: Any) -> Runner:
        runners.append(Runner(*arguments, **named))
        return runners[-1].start()

    yield start
    for runner in runners:
        runner.discard()


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with its default configuration."""
    return start_runner()


def started(request: pytest.FixtureRequest, kind: Callable[..., Runner]) -> Generator[Callable[..., Any], None, None]:
    """What a fixture yields that starts a KIND with the arguments given, as many as wanted; their journals are shown
    like those of other runners."""
    ours: list[Any] = []
    shown = request.node.stash.setdefault(RUNNERS, [])

    def start(*arguments: Any, **named: Any) -> Runner:
        ours.append(kind(*arguments, **named))
        shown.append(ours[-1])
        ours[-1].start()
        return ours[-1]

    yield start
    for one in ours:
        one.discard()


@pytest.fixture(scope="session")
def shared_postgres() -> Generator[Postgres, None, None]:
    """A server for queues with a database each."""
    server = Postgres({"max_connections": "200"})
    yield server.create()
    server.discard()


@pytest.fixture
def start_queue(request: pytest.FixtureRequest) -> Generator[Callable[..., Queue], None, None]:
    kind: Callable[..., Queue] = Queue
    if os.environ.get("DAGGYR_TEST_STORE") == "postgresql":
        kind = partial(StoredQueue, request.getfixturevalue("shared_postgres"))
    yield from started(request, kind)


@pytest.fixture
def start_upgradable(request: pytest.FixtureRequest) -> Generator[Callable[..., Upgradable], None, None]:
    yield from started(request, Upgradable)


@pytest.fixture
def start_postgres(request: pytest.FixtureRequest) -> Generator[Callable[..., Postgres], None, None]:
    """Starts a PostgreSQL server with the settings given, as many as wanted; or the standby of another one."""
    ours: list[Postgres] = []
    shown = request.node.stash.setdefault(RUNNERS, [])

    def start(
        settings: Mapping[str, str] | None = None, follows: Postgres | None = None, is_synchronous: bool = True
    ) -> Postgres:
        ours.append(Postgres(settings))
        shown.append(ours[-1])
        return ours[-1].follow(follows, is_synchronous) if follows else ours[-1].create()

    yield start
    for one in ours:
        one.discard()


@pytest.fixture
def postgres(start_postgres: Callable[..., Postgres]) -> Postgres:
    """A PostgreSQL server with the database "daggyr"."""
    return start_postgres()


@pytest.fixture
def servers(start_postgres: Callable[..., Postgres]) -> Pair:
    """A primary and a standby."""
    primary = start_postgres()
    return Pair(primary, start_postgres(follows=primary))


@pytest.fixture
def start_proxy() -> Generator[Callable[[int], Proxy], None, None]:
    """Starts a Proxy to a port, as many as wanted."""
    ours: list[Proxy] = []

    def start(port: int) -> Proxy:
        ours.append(Proxy(port))
        return ours[-1]

    yield start
    for one in ours:
        one.close()


@pytest.fixture
def start_member(
    request: pytest.FixtureRequest, start_postgres: Callable[..., Postgres], start_proxy: Callable[[int], Proxy]
) -> Generator[Callable[..., Member], None, None]:
    """Starts a Member; all of them end before their servers, and the way there, do."""
    yield from started(request, Member)


@pytest.fixture
def start_cluster(start_member: Callable[..., Member]) -> Callable[..., Cluster]:
    """Starts so many members as there are conninfos, and returns when they know each other."""

    def start(workers: dict[str, Runner], conninfos: list[str], *arguments: Any, **named: Any) -> Cluster:
        cluster = Cluster([start_member(workers, conninfo, *arguments, **named) for conninfo in conninfos])
        cluster.await_all()
        return cluster

    return start


@pytest.fixture(params=["runner", "queue"])
def daemon(
    request: pytest.FixtureRequest, start_runner: Callable[..., Runner], start_queue: Callable[..., Queue]
) -> Runner:
    """What a client talks to: a daggyr with room for everything, or a daggyd in front of one."""
    runner = start_runner(bedlib.ROOMY)
    if request.param == "runner":
        return runner
    queue = start_queue({"w": runner})
    queue.await_leases("w")
    return queue


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In a machine that takes long, and is killed if it takes too long, a failure is told at once."""
    if os.environ.get("DAGGYR_VM") and not os.environ.get("PYTEST_XDIST_WORKER") and report.failed:
        print(f"\n{report.nodeid} failed ({report.when}):\n{report.longreprtext}", flush=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A failure shows what the daemons had to say."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for runner in item.stash.get(RUNNERS, []):
            report.sections.append((f"journal of {runner.unit}", runner.journal()))
