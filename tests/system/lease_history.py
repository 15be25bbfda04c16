# SPDX-License-Identifier: LGPL-2.1-or-later
"""What runners' journals say of leases and of the tasks that ran under them. The queues are not asked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from bedlib import SLOWNESS, Runner, run, timestamp

GRANTED = "3561b56d548040968229eef2f0e63763"
RELEASED = "04e227f7c52247778572f5729ca3c89d"
EXPIRED = "4833bdcdc4264daea57c2c6f4d7f13e3"
STARTED = "f1c6f0a3a5a84c41a5d3c4e8a6fb0e11"
FINISHED = "9b0d6e3c4f0f4a0f9f3e57c7a3f2d7c2"


@dataclass
class Lease:
    queue: str
    epoch: str
    begin: float
    end: float = math.inf
    released: bool = False


@dataclass
class Run:
    task: str
    queue: str
    epoch: str
    accepted: float
    end: float = math.inf


def placed_config(name: str) -> dict[str, str]:
    """Properties of a Runner whose tasks can tell where they ran: they print $PLACE first."""
    return {"Environment": f"PLACE={name}"}


def leases_of(runner: Runner) -> list[Lease]:
    """In their order, by the journal of the runner's unit."""
    leases: list[Lease] = []
    for entry in _entries(runner.made_at, f"_SYSTEMD_UNIT={runner.unit}"):
        message = entry.get("MESSAGE_ID")
        if message not in (GRANTED, RELEASED, EXPIRED):
            continue
        seconds = timestamp(entry["DAGGYR_LEASE_TIME"])
        if message == GRANTED:
            leases.append(Lease(entry["DAGGYR_LEASE_QUEUE"], entry["DAGGYR_LEASE_EPOCH"], seconds))
        else:
            ended = leases[-1]
            assert (ended.queue, ended.epoch) == (entry["DAGGYR_LEASE_QUEUE"], entry["DAGGYR_LEASE_EPOCH"])
            ended.end, ended.released = seconds, message == RELEASED
    return leases


def runs_of(prefix: str, since: float) -> dict[str, list[Run]]:
    """The runs of the tasks whose ids begin so, none of them older, by the place each says it was at."""
    runs: dict[str, Run] = {}
    places: dict[str, str] = {}
    of_tasks = (f"MESSAGE_ID={STARTED}", "+", f"MESSAGE_ID={FINISHED}", "+", "DAGGYR_STREAM=stdout")
    for entry in _entries(since, *of_tasks):
        id = entry.get("DAGGYR_TASK_ID", "")
        if not id.startswith(prefix):
            continue
        if entry.get("MESSAGE_ID") == STARTED:
            assert "DAGGYR_QUEUE" in entry, f"{id} ran without lease"
            accepted = timestamp(entry["DAGGYR_SUBMIT_TIME"])
            runs[id] = Run(id, entry["DAGGYR_QUEUE"], entry["DAGGYR_LEASE_EPOCH"], accepted)
        elif entry.get("MESSAGE_ID") == FINISHED:
            runs[id].end = _seconds(entry)
        else:
            places[id] = entry["MESSAGE"]
    by_place: dict[str, list[Run]] = {}
    for id, found in runs.items():
        by_place.setdefault(places[id], []).append(found)
    return by_place


def starts_of(prefix: str, since: float) -> list[str]:
    """The attempts that were started of the tasks whose ids begin so, each as often as it was, by the runners' words."""
    ids = [entry.get("DAGGYR_TASK_ID", "") for entry in _entries(since, f"MESSAGE_ID={STARTED}")]
    return [id for id in ids if id.startswith(prefix)]


def check_leases(runners: dict[str, Runner], prefix: str, owners: dict[str, str]) -> int:
    """Every task with an id that begins with PREFIX and then one of OWNERS was accepted under a live lease of
    that owner's address. No other queue had the runner while it ran, unless its own queue had let the lease
    expire, as one that died does. Returns how many runs there were."""
    n_runs = 0
    by_place = runs_of(prefix, min(runner.made_at for runner in runners.values()))
    assert set(by_place) <= set(runners)
    for place, runner in runners.items():
        leases = leases_of(runner)
        for before, after in zip(leases, leases[1:]):
            assert before.end <= after.begin, f"{place}: {before} and {after}"
        for one in by_place.get(place, []):
            n_runs += 1
            _check_run(place, one, leases)
            owner = owners[one.task.removeprefix(prefix).partition(".")[0]]
            assert one.queue == owner, f"{place}: {one} is {owner}'s"
    return n_runs


def _check_run(place: str, one: Run, leases: list[Lease]) -> None:
    own = [lease for lease in leases if (lease.queue, lease.epoch) == (one.queue, one.epoch)]
    assert len(own) == 1, f"{place}: {one} came under {own}"
    assert own[0].begin - 0.05 <= one.accepted <= own[0].end, f"{place}: {one} came outside of {own[0]}"
    # A task's last entry goes through its leader, that of the release does not.
    assert not own[0].released or one.end <= own[0].end + SLOWNESS, f"{place}: {one} outlived {own[0]}"


def _entries(since: float, *matches: str) -> list[dict[str, str]]:
    """Without the journal's whole past: the output of all tasks of all tests so far is minutes to read."""
    run("journalctl", "--sync")
    text = run("journalctl", "--quiet", "--output", "json", "--since", f"@{math.floor(since)}", *matches)
    return [json.loads(line) for line in text.splitlines()]


def _seconds(entry: dict[str, str]) -> float:
    """When it was sent; journald adds when it came in."""
    return int(entry.get("_SOURCE_REALTIME_TIMESTAMP", entry["__REALTIME_TIMESTAMP"])) / 1e6
