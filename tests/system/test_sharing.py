# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several queues, the same runners."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bedlib import SLOWNESS, await_that, open_folder, run, task_id
from emcee_queue import EmceeQueue
from lease_history import check_leases, leases_of
from sharinglib import (
    BOUND,
    LEASE,
    SCAN,
    Load,
    address,
    ask,
    await_sizes,
    leased,
    permitted,
    post_to,
    sharing_config,
    some_runners,
)

Starter = Callable[..., Any]


@pytest.mark.plain
def test_queues_of_two_versions_share_four_workers(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: two versions of the queue during an upgrade would fight over the workers, and those of one that
    died would lie idle or run tasks of two."""
    workers = some_runners(start_runner, 4)
    config = sharing_config()
    queues = [start_queue(workers, config | {"version": f"1.{i}"}) for i in range(2)]
    prefix = task_id("share") + "."
    loads = [Load(post_to(queue), f"{prefix}q{i}") for i, queue in enumerate(queues)]
    await_sizes(queues, [2, 2])
    time.sleep(2)  # both at work, which is no condition but a while

    queues[0].kill9()
    killed = time.monotonic()
    await_sizes([queues[1]], [4])
    took = time.monotonic() - killed
    assert took < BOUND + SCAN * SLOWNESS, f"{took:.1f} s"
    print(f"the survivor had all after {took:.1f} s of {BOUND}")

    queues[0].start()
    await_sizes(queues, [2, 2])
    time.sleep(2)
    ids = [load.stop() for load in loads]
    for queue, of_queue in zip(queues, ids):
        assert len(of_queue) > 20
        for id in of_queue:
            assert queue.wait(id)["state"] == "completed"
    owners = {f"q{i}": address(queue) for i, queue in enumerate(queues)}
    n_runs = check_leases(workers, prefix, owners)
    assert n_runs >= sum(map(len, ids))


def test_a_worker_is_handed_over_when_its_task_has_ended(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a queue that joins would cost those who are there their tasks, or never get a worker."""
    workers = some_runners(start_runner, 2)
    config = sharing_config()
    first = start_queue(workers, config)
    await_sizes([first], [2])
    prefix, gate = task_id("hand") + ".", open_folder() / "gate"
    wait = ["sh", "-c", f"echo $PLACE; while [ ! -e {gate} ]; do sleep 0.1; done"]
    ids = [first.submit(wait, f"{prefix}a.{i}", resources={"cores": 4}) for i in range(2)]
    for id in ids:
        await_that(lambda: first.attempt(id)["state"] == "running")
    second = start_queue(workers, config)
    await_that(lambda: len(permitted(second)) == 1 and len(permitted(first)) == 1, what="the new split")
    moving = permitted(second)
    held_until = time.monotonic() + LEASE + 2  # longer than an unrenewed lease lives
    while time.monotonic() < held_until:
        assert not leased(second)
        time.sleep(0.2)
    shown = second.workers()[moving.copy().pop()]
    assert (shown["state"], shown["lease"]) == ("leased", {"queue": address(first), "own": False})
    gate.touch()
    await_sizes([first, second], [1, 1])
    assert leased(second) == moving
    assert [first.wait(id)["state"] for id in ids] == ["completed"] * 2
    assert second.run(["true"])["worker"] in moving
    check_leases(workers, prefix, {"a": address(first)})
    assert leases_of(workers[moving.pop()])[0].released


def test_a_queue_that_stops_gives_its_workers_back(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: every restart of a queue would cost its workers' time until the leases ended."""
    workers = some_runners(start_runner, 3)
    config = sharing_config()
    queues = [start_queue(workers, config | {"version": str(i)}) for i in range(3)]
    await_sizes(queues, [1, 1, 1])
    queues[2].stop()  # the master
    stopped = time.monotonic()
    await_that(lambda: sum(len(leased(queue)) for queue in queues[:2]) == 3, what="the others to have all")
    assert time.monotonic() - stopped < BOUND + SCAN * SLOWNESS
    for runner in workers.values():
        assert all(lease.released for lease in leases_of(runner)[:-1])


def test_a_draining_queue_takes_no_part(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the workers of a queue that takes no tasks would stand idle."""
    workers = some_runners(start_runner, 2)
    config = sharing_config()
    queues = [start_queue(workers, config | {"version": str(i)}) for i in range(2)]
    await_sizes(queues, [1, 1])
    assert queues[1].put("/api/v1/drain", json={"drain": True}).ok
    version = ask(queues[1].url, "/queueVersion", {}).json()["version"]
    assert version == "not_discoverable_1"
    await_sizes(queues, [2, 0])
    await_that(lambda: queues[0].get("/api/v1/queues").json()["master"] == address(queues[0]))
    assert queues[1].put("/api/v1/drain", json={"drain": False}).ok
    await_sizes(queues, [1, 1])


def test_workers_that_one_queue_does_not_have(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a queue with few workers would get none of them, as others take them first."""
    workers = some_runners(start_runner, 4)
    config = sharing_config()
    few = {id: workers[id] for id in ("w0", "w1")}
    queues = [start_queue(workers, config), start_queue(few, config)]
    await_sizes(queues, [2, 2])
    assert [leased(queue) for queue in queues] == [{"w2", "w3"}, {"w0", "w1"}]
    shown = queues[0].get("/api/v1/queues").json()
    assert {"self", "master", "queues", "computed"} <= set(shown)
    assert shown["self"] == shown["master"] == address(queues[0])
    version = shown["queues"][0]["version"]
    assert sorted(shown["queues"], key=lambda queue: queue["address"]) == [
        {"address": address(queues[0]), "version": version, "workers": sorted(workers), "share": ["w2", "w3"]},
        {"address": address(queues[1]), "version": version, "workers": ["w0", "w1"], "share": ["w0", "w1"]},
    ]
    other = queues[1].get("/api/v1/queues").json()
    assert (other["self"], other["master"]) == (address(queues[1]), address(queues[0]))
    assert sorted(other["queues"], key=lambda queue: queue["address"]) == [
        {"address": address(queues[0]), "version": version, "workers": None, "share": None},
        {"address": address(queues[1]), "version": version, "workers": ["w0", "w1"], "share": ["w0", "w1"]},
    ]


def test_more_queues_than_workers_take_turns(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: queues whose address is late in the order would never run a task."""
    workers = some_runners(start_runner, 1)
    config = sharing_config({"cache_ttl": 0.5}, lease_ttl=1)
    queues = [start_queue(workers, config) for _ in range(3)]
    prefix = task_id("turns") + "."
    ids = [queue.submit(["sh", "-c", "echo $PLACE"], f"{prefix}q{i}.0") for i, queue in enumerate(queues)]
    for queue, id in zip(queues, ids):
        assert queue.wait(id, 60)["state"] == "completed"
    owners = {f"q{i}": address(queue) for i, queue in enumerate(queues)}
    assert check_leases(workers, prefix, owners) == 3


def test_sharing_can_be_switched_off_and_on(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a queue could not be told to use what the others leave; or it would take what they have."""
    workers = some_runners(start_runner, 2)
    config = sharing_config()
    queues = [start_queue(workers, config) for _ in range(2)]
    await_sizes(queues, [1, 1])
    before = leased(queues[0])
    assert ask(queues[0].url, "/toggleWorkersSharing", {"status": "disabled"}).json() == {}
    assert permitted(queues[0]) == set(workers)
    assert queues[0].get("/api/v1/queues").json()["enabled"] is False
    until = time.monotonic() + LEASE + 1
    while time.monotonic() < until:
        assert leased(queues[0]) == before
        time.sleep(0.2)
    queues[1].kill9()
    await_sizes(queues[:1], [2])
    queues[1].start()
    assert ask(queues[0].url, "/toggleWorkersSharing", {"status": "enabled"}).json() == {}
    await_sizes(queues, [1, 1])


def test_emcees_split_can_be_had(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the same shares as an Emcee queue beside this one would compute."""
    workers = some_runners(start_runner, 3)
    config = sharing_config({"strict": False})
    queues = [start_queue(workers, config) for _ in range(2)]
    await_sizes(queues, [2, 1])
    assert [leased(queue) for queue in queues] == [{"w0", "w2"}, {"w1"}]


@pytest.mark.plain
def test_a_hung_queue_counts_as_gone(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: one queue that hangs would hold up all; and what it does when it wakes up would be unsafe."""
    workers = some_runners(start_runner, 2)
    config = sharing_config()
    queues = [start_queue(workers, config | {"version": f"{i}"}) for i in range(2)]
    prefix = task_id("hung") + "."
    await_sizes(queues, [1, 1])
    for hung, well in (queues, queues[::-1]):
        load = Load(post_to(hung), f"{prefix}q{queues.index(hung)}", 40)
        await_that(lambda: len(load.ids) == 40)
        run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", hung.unit)
        try:
            stopped = time.monotonic()
            await_sizes([well], [2])
            # A scan takes 3 s then, of the master and of who looks for it.
            assert time.monotonic() - stopped < BOUND + 2 * 3 + SCAN * SLOWNESS
            assert well.run(["true"])["state"] == "completed"
        finally:
            run("systemctl", "kill", "--kill-whom=main", "--signal=CONT", hung.unit)
        hung.http.close()  # a connection may have been idle for too long meanwhile, and is just being closed
        await_sizes(queues, [1, 1], 30)
        for id in load.stop():
            assert hung.wait(id)["state"] == "completed"
        prefix_runs = check_leases(
            workers, prefix, {f"q{i}": address(queue) for i, queue in enumerate(queues)}
        )
        assert prefix_runs >= 40
        prefix = task_id("hung") + "."


def test_queues_that_do_not_see_each_other(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a wrong "hosts" or a parted network would have two queues use the same worker at once."""
    workers = some_runners(start_runner, 2)
    queues = [start_queue(workers, sharing_config()) for _ in range(2)]
    await_that(lambda: all(permitted(queue) == set(workers) for queue in queues))
    await_that(lambda: sum(len(leased(queue)) for queue in queues) == 2, what="each worker to be leased")
    for queue, other in (queues, queues[::-1]):
        for id in set(workers) - leased(queue):
            await_that(lambda: queue.workers()[id]["state"] == "leased", what="409 to be heard")
            assert queue.workers()[id]["lease"] == {"queue": address(other), "own": False}


def test_names_that_differ_from_those_scanned(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: queues that are scanned by IP address and call themselves by name would get nothing."""
    workers = some_runners(start_runner, 2)
    config = sharing_config({"hosts": ["127.0.0.1", "localhost"]})
    ports = config.pop("port_range")
    queues = []
    for port in (ports["from"], ports["from"] + 1):
        queues.append(start_queue(workers, config | {"port": port, "advertise": f"localhost:{port}"}))
    await_sizes(queues, [1, 1])
    for queue in queues:
        shown = queue.get("/api/v1/queues").json()["queues"]
        addresses = sorted(queue["address"] for queue in shown)
        assert addresses == [f"localhost:{ports['from'] + i}" for i in range(2)]


def test_queues_of_two_hosts_never_have_the_same_name(start_queue: Starter) -> None:
    """Lost: two queues that both call themselves 127.0.0.1:2503 would hold one lease, and use a worker of a
    third host at once."""
    here = socket.gethostname()
    elsewhere = [{"id": "w", "url": f"http://{here}:1"}]
    for config in ({"workers": elsewhere}, {"ip": "0.0.0.0", "insecure": True}):
        queue = start_queue({}, sharing_config() | config)
        port = queue.url.rpartition(":")[2]
        assert queue.get("/api/v1/queues").json()["self"] == f"{here}:{port}"


def test_who_is_master(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: two masters, or none when the one there was is gone."""
    workers = some_runners(start_runner, 1)
    config = sharing_config()
    queues = [start_queue(workers, config | {"version": version}) for version in ("3", "3", "10")]

    def masters() -> set[str]:
        shown = [queue.get("/api/v1/queues").json() for queue in queues if queue.state == "active"]
        return {queue["master"] for queue in shown}

    await_that(lambda: masters() == {address(queues[0])}, what="the lower address of the higher version")
    queues[0].kill9()
    await_that(lambda: masters() == {address(queues[1])}, what="the other one of that version")
    queues[1].kill9()
    await_that(lambda: masters() == {address(queues[2])}, what="the last one")
    await_sizes(queues[2:], [1])
    queues[1].start()
    await_that(lambda: len(masters()) == 1 and masters() != {address(queues[2])}, what="the better one again")


def test_many_who_ask_cause_one_scan(start_queue: Starter, start_runner: Starter) -> None:
    """Lost: a hundred queues would each have the master ask all others, all at the same time."""
    config = sharing_config({"cache_ttl": 5, "poll_interval": 60})
    workers = some_runners(start_runner, 1)
    with EmceeQueue(config["port_range"]["to"], "0", ["w0", "w1"]) as member:
        member.delay = 0.3
        master = start_queue(workers, config)
        await_that(lambda: member.count("/workerIds") == 1, what="the master's own question")
        await_that(lambda: master.get("/api/v1/queues").json()["computed"])
        began = time.monotonic()
        body = {"queueInfo": {"queueAddress": member.address, "queueVersion": "0"}, "workerIds": ["w0", "w1"]}

        def share(_: int) -> set[str]:
            return set(ask(master.url, "/workersToUtilize", body).json()["workerIds"])

        with ThreadPoolExecutor(20) as pool:
            assert set(map(frozenset, pool.map(share, range(60)))) == {frozenset({"w1"})}
            if time.monotonic() - began < 4:  # else the first split may be over already
                assert member.count("/workerIds") == 1
            n_before = member.count("/workerIds")
            time.sleep(5)  # cache_ttl
            assert len(set(map(frozenset, pool.map(share, range(60))))) == 1
        assert member.count("/workerIds") == n_before + 1
