# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that can go wrong with a queue on several hosts, in an order that a seed decides, under load all the time.

Some seconds of it by default; with DAGGYR_TEST_LONG=1 some hours' worth of trouble within one. DAGGYR_TEST_SEED is
another seed."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from bedlib import PATIENCE, ROOMY, SLOWNESS, Runner, await_that
from clusterlib import MEMBER_TTL, TAKE_OVER_MAX, Cluster, Load, Member
from postgreslib import Pair
from proxylib import Proxy

Starter = Callable[..., Any]

LONG = bool(os.environ.get("DAGGYR_TEST_LONG"))
SEED = int(os.environ.get("DAGGYR_TEST_SEED", "14"))

COUNTS = (
    {"kill": 100, "hang": 20, "restart_server": 20, "promote": 5, "cut": 20}
    if LONG
    else {"kill": 3, "hang": 1, "restart_server": 1, "promote": 1, "cut": 1}
)
HANG_SECONDS = 30 if LONG else MEMBER_TTL + 1


class Trouble:
    """A cluster, its database and its network, and what befalls them; each fault returns when all is well again.

    take_overs has the seconds without a leader of those faults that met the one that led."""

    def __init__(self, cluster: Cluster, servers: Pair, proxies: list[list[Proxy]], rng: random.Random) -> None:
        self.take_overs: dict[str, list[float]] = {}
        self._cluster, self._servers, self._proxies, self._rng = cluster, servers, proxies, rng

    def cause(self, name: str) -> None:
        getattr(self, f"_{name}")()
        self._cluster.await_all(60)

    def _member(self) -> tuple[Member, bool]:
        """Any, every other time the leader, and whether it is that."""
        leader = self._cluster.await_leader()
        member = leader if self._rng.random() < 0.5 else self._rng.choice(self._cluster.members)
        return member, member is leader

    def _measure(self, name: str, member: Member, leads: bool) -> None:
        if leads:
            begin = time.monotonic()
            self._cluster.await_leader(60, other_than=member)
            self.take_overs.setdefault(name, []).append(time.monotonic() - begin)

    def _kill(self) -> None:
        member, leads = self._member()
        member.kill9()
        self._measure("kill", member, leads)
        member.start()

    def _hang(self) -> None:
        member, leads = self._member()
        begin = time.monotonic()
        with member.hung():
            self._measure("hang", member, leads)
            time.sleep(max(0, begin + HANG_SECONDS - time.monotonic()))

    def _cut(self) -> None:
        member, leads = self._member()
        links = self._proxies[self._cluster.members.index(member)]
        for proxy in links:
            proxy.cut()
        self._measure("cut", member, leads)
        await_that(lambda: not member.leads(), MEMBER_TTL, "it to step down")
        for proxy in links:
            proxy.mend()

    def _restart_server(self) -> None:
        self._servers.primary.kill9()
        time.sleep(self._rng.uniform(0, 1))  # what members do meanwhile differs
        self._servers.primary.start()

    def _promote(self) -> None:
        self._servers.fail_over()
        self._cluster.await_leader(60)
        self._servers.repair()


def show_distribution(take_overs: dict[str, list[float]]) -> None:
    shares = {"least": 0, "median": 0.5, "90 %": 0.9, "most": 1}
    for name, seconds in sorted(take_overs.items()):
        at = {text: sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))] for text, share in shares.items()}
        shown = ", ".join(f"{text} {value:.2f} s" for text, value in at.items())
        print(f"take-over after {name}: {len(seconds)} times, {shown}")


@pytest.mark.timeout(7200 if LONG else 400 * SLOWNESS)
@pytest.mark.parametrize("n_members", [2, 3] if LONG else [3])
def test_whatever_happens_each_task_has_one_result(
    start_cluster: Starter, start_runner: Starter, start_proxy: Starter, servers: Pair, n_members: int
) -> None:
    """Lost: tasks, or "not twice", in a combination of faults that nobody has thought of."""
    rng = random.Random(SEED)
    runners: dict[str, Runner] = {name: start_runner(ROOMY) for name in "abcd"}
    proxies = [[start_proxy(port) for port in servers.ports] for _ in range(n_members)]
    cluster = start_cluster(runners, [servers.conninfo([proxy.port for proxy in links]) for links in proxies])
    cluster.await_leases(*runners)
    trouble = Trouble(cluster, servers, proxies, rng)
    faults = [name for name, n in COUNTS.items() for _ in range(n)]
    rng.shuffle(faults)
    print(f"seed {SEED}:", *faults)
    with Load(cluster, n_clients=4, pause=0.3 if LONG else 0.1) as load:
        for name in faults:
            load.go_on(5)
            trouble.cause(name)
        load.go_on(20)
    load.check(seconds=120)
    show_distribution(trouble.take_overs)
    assert max(max(seconds) for seconds in trouble.take_overs.values()) < PATIENCE * TAKE_OVER_MAX
