# SPDX-License-Identifier: LGPL-2.1-or-later
"""Upgrade after upgrade in place of a runner that is busy with all it can be busy with."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from bedlib import await_nothing_left, await_that, open_fds, task_id
from upgradelib import Events, Follower, Submitter, Upgradable, children, output

FEWER = {"systemd": 10, "sanitized": 20}
"""Where they are tested once more."""

N_UPGRADES = int(os.environ.get("DAGGYR_UPGRADES", FEWER.get(os.environ.get("DAGGYR_TEST_SET", ""), 100)))

Starter = Callable[..., Upgradable]

CHATTY = 'i=0; while [ ! -e "$0" ]; do echo line $i; i=$((i+1)); [ $((i % 50)) != 0 ] || sleep 0.05; done; echo $i lines'


class Load:
    """All that a runner can be busy with at a time."""

    def __init__(self, runner: Upgradable) -> None:
        self.runner = runner
        runner.marks.mkdir()
        runner.marks.chmod(0o777)
        self.lease = runner.post("/api/v1/lease", json={"queue": "q:1", "version": "1", "ttl": 3600}).json()
        self.end = runner.folder / "end"
        self.events = Events(runner)
        self.chatty = [self.submit("chatty", ["sh", "-c", CHATTY, str(self.end)]) for _ in range(2)]
        self.long = [self.submit("long", ["sh", "-c", "echo long; sleep infinity"]) for _ in range(3)]
        self.followers = [Follower(runner, id) for id in self.chatty]
        self.submitters = [Submitter(runner, self.lease["lease_id"]) for _ in range(2)]
        slot = {"resources": {"cores": 0.1, "memory_mb": 32, "slot": 1}}  # for which two at a time wait
        self.queuers = [Submitter(runner, self.lease["lease_id"], "sleep 0.2;", **slot) for _ in range(3)]

    def submit(self, name: str, command: list[str]) -> str:
        id = task_id(name)
        headers = {"Daggyr-Lease": self.lease["lease_id"]}
        answer = self.runner.post(f"/api/v1/task/{id}", json={"command": command}, headers=headers)
        assert answer.status_code == 202, answer.text
        return id

    def check_short(self) -> list[str]:
        """Ends them, each of which was executed once, and those in their order that had to wait for one another."""
        for submitter in self.submitters + self.queuers:
            submitter.finish()
        attempts = {id: self.runner.attempt(id) for it in self.submitters + self.queuers for id in it.ids}
        for id, attempt in attempts.items():
            assert attempt["state"] == "completed" and attempt["output"] == "done\n", attempt
            assert (self.runner.marks / id).read_text() == "started\n"
        in_order = sorted((attempts[id] for it in self.queuers for id in it.ids), key=lambda it: it["submit_time"])
        starts = [attempt["start_time"] for attempt in in_order]
        assert starts == sorted(starts)
        return list(attempts)

    def check_chatty(self) -> None:
        self.end.touch()
        for id, follower in zip(self.chatty, self.followers, strict=True):
            assert self.runner.wait(id)["state"] == "completed"
            follower.finish()
            lines = follower.read.decode().splitlines()
            n = int(lines[-1].split()[0])
            assert lines == [f"line {i}" for i in range(n)] + [f"{n} lines"]
            assert follower.read == output(self.runner, id)
            assert follower.n_ends > 1

    def check_long(self) -> None:
        assert [self.runner.attempt(id)["state"] for id in self.long] == ["running"] * 3
        for id in self.long:
            self.runner.delete(f"/api/v1/task/{id}")
            attempt = self.runner.wait(id)
            assert (attempt["result"], attempt["output"]) == ("stopped", "long\n"), attempt

    def check_lease_and_events(self) -> None:
        path = f"/api/v1/lease/{self.lease['lease_id']}"
        assert self.runner.put(path).json()["epoch"] == self.lease["epoch"]
        self.events.over = True
        self.runner.delete(path)  # of which there is an event
        self.events.finish()
        ids = self.events.ids[1:]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_many_upgrades_in_a_row_under_load_lose_nothing(start_upgradable: Starter) -> None:
    runner = start_upgradable({"capacity_overrides": {"cores": 32, "memory_mb": 65536, "slot": 1}})
    pid = runner.main_pid
    runner.run(["true"])
    runner.upgrade()
    kinds = kinds_of_descriptors(pid)
    facts = runner.get("/api/v1/capacity").json()["facts"]
    load = Load(runner)
    for _ in range(N_UPGRADES):
        runner.upgrade()
    assert runner.main_pid == pid
    assert runner.get("/api/v1/capacity").json()["facts"]["instance_id"] == facts["instance_id"]
    short = load.check_short()
    load.check_chatty()
    load.check_long()
    load.check_lease_and_events()
    await_nothing_left(*short[-10:], *load.long, *load.chatty)
    for id in load.chatty:  # whose output is in files
        assert runner.delete(f"/api/v1/task/{id}").status_code == 204
    runner.http.close()
    await_that(
        lambda: no_more_than(kinds_of_descriptors(pid), kinds),
        what=f"as few descriptors as {kinds}, not {kinds_of_descriptors(pid)}",
    )
    await_that(lambda: not children(pid), what="whoever looks up an account for it to have ended")


def kinds_of_descriptors(pid: int) -> dict[str, int]:
    """How many descriptors there are of each kind, but for the one by which logind waits, which comes a moment later."""
    kinds: dict[str, int] = {}
    for target in open_fds(pid).values():
        kind = re.sub(r"\d+", "N", target)
        kinds[kind] = kinds.get(kind, 0) + (not kind.startswith("/run/systemd/inhibit/"))
    return kinds


def no_more_than(these: dict[str, int], those: dict[str, int]) -> bool:
    return all(n <= those.get(kind, 0) for kind, n in these.items())
