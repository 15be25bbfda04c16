# SPDX-License-Identifier: LGPL-2.1-or-later
"""A queue of several members that shares its runners with another queue: that the members are one queue there, whoever
of them leads, dies or wakes up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bedlib import SLOWNESS, Queue, Runner, await_that, open_folder, task_id, timestamp
from clusterlib import MEMBER_TTL, Client, Cluster
from lease_history import check_leases, leases_of, starts_of
from postgreslib import Postgres
from sharinglib import Load, address, ask, await_sizes, leased, permitted, post_to, sharing_config, some_runners

Starter = Callable[..., Any]

SILENCE = 4 * MEMBER_TTL
"""Seconds that members give the one that leads: so long that meanwhile the other queue takes theirs for gone, for which
it has to look twice, 3 s each time."""

TAKE_OVER = SILENCE + 2 * SLOWNESS
LEASE_TTL = 3 * (TAKE_OVER + 6)
"""Leases outlive that, as they do with the defaults."""

HAND_OVER_LEASE_TTL = 10 * SLOWNESS
"""Leases outlive a member that is stopped, and an unrenewed one can be waited for."""


class Neighbours:
    """Two queues with the same runners: one of two members, and one that is alone."""

    def __init__(self, cluster: Cluster, alone: Queue, runners: dict[str, Runner]) -> None:
        self.cluster, self.alone, self.runners = cluster, alone, runners
        self.names = {"members": cluster[0].address, "alone": address(alone)}

    def holders(self) -> dict[str, tuple[str, str]]:
        """Which queue has each runner and under which lease, by the runners' word."""
        found = {id: runner.get("/api/v1/lease").json()["lease"] for id, runner in self.runners.items()}
        return {id: (lease["queue"], lease["epoch"]) for id, lease in found.items() if lease}

    def share(self, whose: str) -> set[str]:
        return {id for id, (queue, _) in self.holders().items() if queue == self.names[whose]}

    def await_halves(self) -> dict[str, tuple[str, str]]:
        """Returns the holders when each queue has half of the runners."""
        half = len(self.runners) // 2
        await_sizes([self.cluster.await_leader(), self.alone], [half, half])
        return self.holders()

    def await_split(self) -> None:
        """Returns when the workers have been split, and each queue has looked around, once more."""
        begin = time.time()

        def has_looked(queue: Queue) -> bool:
            computed = queue.get("/api/v1/queues").json()["computed"]
            return computed is not None and timestamp(computed) > begin

        for queue in self.cluster.await_leader(), self.alone:
            await_that(lambda: has_looked(queue), 20, f"{queue.name} to look for queues once more")

    def check_names(self) -> None:
        """Each queue knows of these two and no others, whichever member is asked."""
        asked = [*self.cluster.members, self.alone]
        for queue in asked:
            shown = queue.get("/api/v1/queues").json()
            assert sorted(it["address"] for it in shown["queues"]) == sorted(self.names.values()), shown
        versions = [ask(queue.url, "/queueVersion", {}) for queue in asked]
        identities = {answer.headers["Daggyr-Queue"] for answer in versions}
        assert {identity.partition(" ")[2] for identity in identities} == set(self.names.values())
        assert len(identities) == 2

    @contextmanager
    def loaded(self) -> Iterator[dict[str, Load]]:
        """Both queues get tasks all the time. Each of these has run once, under a lease of its own queue; and all the
        while no lease has begun or ended."""
        before, since = self.holders(), time.time()
        prefix = task_id("load") + "."
        client = Client(self.cluster)
        posts = {
            "members": lambda path, body: client.request("POST", path, json=body),
            "alone": post_to(self.alone),
        }
        loads = {whose: Load(post, f"{prefix}{whose}", 2000, 0.25) for whose, post in posts.items()}
        try:
            yield loads
        finally:
            ids = {whose: load.stop() for whose, load in loads.items()}
        attempts = [client.wait(id) for id in ids["members"]] + [self.alone.wait(id) for id in ids["alone"]]
        for attempt in attempts:
            assert (attempt["state"], attempt["attempts"]) == ("completed", []), attempt
        begun = [id.rpartition(".")[0] for id in starts_of(prefix, since)]
        assert sorted(begun) == sorted(ids["members"] + ids["alone"])
        assert check_leases(self.runners, prefix, self.names) == len(begun)
        assert self.holders() == before
        assert all(leases_of(runner)[-1].begin < since for runner in self.runners.values())


def go_on(loads: dict[str, Load], n: int = 10) -> None:
    """Returns when each queue has accepted so many more tasks."""
    enough = {whose: len(load.ids) + n for whose, load in loads.items()}
    await_that(lambda: all(len(load.ids) >= enough[whose] for whose, load in loads.items()), 30, "more tasks")


@pytest.fixture
def start_neighbours(
    start_runner: Starter, start_member: Starter, start_queue: Starter, postgres: Postgres
) -> Starter:
    """Starts them, with four runners; the one named is the master. Returns when each has its half."""

    def start(master: str, lease_ttl: float = LEASE_TTL, member_ttl: int = SILENCE) -> Neighbours:
        runners = some_runners(start_runner, 4)
        config = sharing_config(lease_ttl=lease_ttl)
        port = config.pop("port_range")["from"]
        versions = {whose: "2" if whose == master else "1" for whose in ("members", "alone")}
        ours = config | {"version": versions["members"], "member_ttl": member_ttl}
        first = start_member(runners, postgres.conninfo(), ours | {"port": port})
        first.await_leases(*runners)
        second = start_member(runners, postgres.conninfo(), ours | {"port": port + 1})
        cluster = Cluster([first, second])
        cluster.await_all()
        alone = start_queue(runners, config | {"version": versions["alone"], "port": port + 2})
        both = Neighbours(cluster, alone, runners)
        both.await_halves()
        both.await_split()
        shown = alone.get("/api/v1/queues").json()
        assert shown["master"] == both.names[master]
        return both

    return start


any_master = pytest.mark.parametrize("master", ["members", "alone"])


@any_master
def test_members_share_as_one_queue(start_neighbours: Starter, master: str) -> None:
    """Lost: a third of the runners, kept for a queue that there is not, with each member more; and runners change hands
    each time that a member comes or goes."""
    both: Neighbours = start_neighbours(master)
    both.check_names()
    with both.loaded() as loads:
        go_on(loads)
        follower = both.cluster.follower()
        follower.stop()
        both.await_split()
        go_on(loads)
        follower.start()
        both.cluster.await_all()
        both.await_split()
        both.check_names()
        go_on(loads)


@any_master
def test_a_killed_leader_leaves_its_share_to_the_next(start_neighbours: Starter, master: str) -> None:
    """Lost: with the host of one member, all runners of its queue, to the other one, while their tasks run on."""
    both: Neighbours = start_neighbours(master)
    shares = {whose: both.share(whose) for whose in both.names}
    with both.loaded() as loads:
        go_on(loads)
        killed = both.cluster.await_leader()
        killed.kill9()
        # It sees no other queue, and so is master, and waits for what it may use but is leased.
        await_that(lambda: permitted(both.alone) == set(both.runners), SILENCE, "the other queue to be alone")
        assert leased(both.alone) == shares["alone"]
        both.cluster.await_leader(TAKE_OVER, other_than=killed)
        both.cluster.await_leases(*shares["members"])
        await_that(lambda: permitted(both.alone) == shares["alone"], 20, "the old split")
        go_on(loads)
        killed.start()
        both.cluster.await_all()
        both.await_split()
        both.check_names()
        go_on(loads)


def test_a_leader_that_wakes_up_is_no_other_queue(start_neighbours: Starter) -> None:
    """Lost: runners, to a queue that is there twice: led by one member, and by what another one remembers."""
    # So short that systemd's watchdog does not end it meanwhile.
    both: Neighbours = start_neighbours("members", member_ttl=MEMBER_TTL)
    shares = {whose: both.share(whose) for whose in both.names}
    with both.loaded() as loads:
        go_on(loads)
        hung = both.cluster.await_leader()
        with hung.hung():
            both.cluster.await_leader(TAKE_OVER, other_than=hung)
            both.cluster.await_leases(*shares["members"])
            both.await_split()
            go_on(loads, 3)
        both.cluster.await_all()
        both.await_split()
        both.check_names()
        go_on(loads)


def test_shares_go_on_when_the_master_is_handed_over(start_neighbours: Starter) -> None:
    """Lost: the split, with each upgrade of the queue that computes it: runners of a queue that ends would stand idle,
    and one that begins would have none."""
    both: Neighbours = start_neighbours("members")
    owners = {id: queue for id, (queue, _) in both.holders().items()}
    for _ in both.cluster.members:  # each of them has been the one that is handed over
        with both.loaded() as loads:
            go_on(loads, 3)
            stopped = both.cluster.await_leader()
            stopped.stop()
            leader = both.cluster.await_leader(TAKE_OVER, other_than=stopped)
            both.await_split()
            assert both.alone.get("/api/v1/queues").json()["master"] == both.names["members"]
            go_on(loads, 3)
        both.alone.stop()
        await_sizes([leader], [len(both.runners)])
        both.alone.start()
        found = both.await_halves()
        assert {id: queue for id, (queue, _) in found.items()} == owners
        stopped.start()
        both.cluster.await_all()
        both.check_names()


def test_a_runner_that_is_to_move_stays_until_its_task_has_ended(start_neighbours: Starter) -> None:
    """Lost: runners to themselves, for tasks that were promised that, when another queue comes and then another member
    leads: the other one's tasks would run beside them."""
    both: Neighbours = start_neighbours("members", HAND_OVER_LEASE_TTL)
    leader, alone = both.cluster.await_leader(), both.alone
    alone.stop()
    await_sizes([leader], [len(both.runners)])
    gate = open_folder() / "gate"
    wait = ["sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.1; done"]
    ids = [leader.submit(wait, resources={"cores": 4}) for _ in both.runners]
    for id in ids:
        await_that(lambda: leader.attempt(id)["state"] == "running")
    alone.start()
    await_that(lambda: len(permitted(alone)) == len(permitted(leader)) == 2, what="the new split")
    before = both.holders()
    assert both.share("members") == set(both.runners)
    leader.stop()
    other = both.cluster.await_leader(TAKE_OVER, other_than=leader)
    held_until = time.monotonic() + HAND_OVER_LEASE_TTL + 2  # longer than an unrenewed lease lives
    while time.monotonic() < held_until:
        assert both.holders() == before
        time.sleep(0.2)
    gate.touch()
    assert [other.wait(id)["state"] for id in ids] == ["completed"] * len(ids)
    both.await_halves()
