# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several daggyds over one database, clients that ask any of them, and a load that tells what became of it."""

from __future__ import annotations

import itertools
import math
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from bedlib import BROKEN_OFF, SLOWNESS, Queue, Runner, await_that, open_folder, run, task_id
from lease_history import starts_of
from postgreslib import Postgres

MEMBER_TTL = math.ceil(3 * min(SLOWNESS, 3))
"""Seconds: the least that daggyd takes, but where a heartbeat may come late."""

TAKE_OVER_MAX = MEMBER_TTL + 2 * SLOWNESS
HAND_OVER_MAX = 1 * SLOWNESS

_databases = itertools.count(1)

STARTED_OFTEN = {"StartLimitInterval": "0"}
SMALL = {"resources": {"cores": 0.1, "memory_mb": 16}}


def token_file(token: str) -> str:
    """A file that has it and that services can read."""
    path = Path(open_folder("/etc"), "token")
    path.write_text(token + "\n")
    path.chmod(0o644)
    return str(path)


class Member(Queue):
    """A daggyd whose tasks are in a database; conninfo is how it reaches that. With a token it wants that of clients,
    and request() shows it."""

    def __init__(
        self,
        workers: Mapping[str, Runner],
        conninfo: str,
        config: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        token: str = "",
    ) -> None:
        over: dict[str, Any] = {"store": {"postgresql": {"conninfo": conninfo}}, "member_ttl": MEMBER_TTL}
        over |= {"lost_after": 30, "lease_ttl": 10}
        super().__init__(workers, over | dict(config or {}), STARTED_OFTEN | dict(properties or {}))
        if token:
            self.config["auth"] = {"token_file": token_file(token)}
            self.http.headers["Authorization"] = f"Bearer {token}"
        self.address = f"127.0.0.1:{self.config['port']}"
        self.hangs = False
        self._hung_pid = 0

    def start(self) -> Member:
        """Without waiting until anybody leads, for which there may be no database."""
        Runner.start(self)
        return self

    def kill9(self) -> None:
        super().kill9()
        run("systemctl", "reset-failed", self.unit, check=False)

    def hang(self) -> None:
        """It does nothing until go_on()."""
        self.hangs = True
        self._hung_pid = self.main_pid
        os.kill(self._hung_pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._hung_pid, signal.SIGCONT)  # without asking systemd, which would make a short hang longer
        self.hangs = False

    @contextmanager
    def hung(self) -> Iterator[None]:
        self.hang()
        try:
            yield
        finally:
            self.go_on()

    def members(self) -> list[dict[str, Any]]:
        """As this one sees them; none, if it says nothing, as while it begins anew."""
        try:
            found: list[dict[str, Any]] = self.get("/api/v1/members", timeout=5 * SLOWNESS).json()
        except BROKEN_OFF:
            return []
        return found

    def living(self) -> set[str]:
        """The addresses of the members that it takes for living."""
        return {member["address"] for member in self.members() if member["state"] == "alive"}

    def leader(self) -> str:
        """The address of the member that it takes for the leader; empty if it knows none."""
        return next((member["address"] for member in self.members() if member["leading"]), "")

    def leads(self) -> bool:
        """Whether it says so itself; not, if it says nothing."""
        if self.hangs:
            return False
        return any(member["self"] and member["leading"] for member in self.members())

    def answer(self, path: str = "/api/v1/tasks") -> requests.Response:
        """The first answer, if connections end before because it begins anew."""
        found: list[requests.Response] = []

        def is_there() -> bool:
            try:
                found.append(self.get(path))
            except BROKEN_OFF:
                return False
            return True

        await_that(is_there, 10, f"an answer of {self.name}")
        return found[0]

    def status(self, method: str = "GET", path: str = "/api/v1/tasks", **options: Any) -> int:
        """Of an answer; 0 if there is no connection."""
        try:
            return self.request(method, path, **options).status_code
        except requests.RequestException:
            return 0


class StoredQueue(Member):
    """A Queue as any, but that its tasks are in a database of its own: for tests to which that makes no difference."""

    def __init__(
        self,
        server: Postgres,
        workers: Mapping[str, Runner],
        config: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        database = f"queue{next(_databases)}"
        server.create_database(database)
        over = {"lease_ttl": 3, "lost_after": 3} | dict(config or {})
        super().__init__(workers, server.conninfo(database), over, properties)

    def start(self) -> StoredQueue:
        before = self._n_leads()
        Queue.start(self)
        await_that(lambda: self._n_leads() > before, TAKE_OVER_MAX, f"{self.name} to lead")
        return self

    def _n_leads(self) -> int:
        """How often it has come to lead, by its log: requests may need a token, or go to another port."""
        return self.journal().count("This member leads\n")


class Cluster:
    """The members of one queue, all with the same workers."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)

    def __getitem__(self, index: int) -> Member:
        return self.members[index]

    def __len__(self) -> int:
        return len(self.members)

    def leader(self) -> Member | None:
        return next((member for member in self.members if member.leads()), None)

    def others(self, *members: Member) -> list[Member]:
        return [member for member in self.members if member not in members]

    def await_leader(self, seconds: float = 20, other_than: Member | None = None) -> Member:
        """The one that leads, as all that answer agree."""

        def agreed() -> Member | None:
            leader = self.leader()
            return leader if leader is not other_than else None

        found = await_that(agreed, seconds, "a member to lead")
        assert found
        return found

    def await_all(self, seconds: float = 30) -> Member:
        """Returns the leader when each knows all others, and who leads."""
        addresses = {member.address for member in self.members}

        def agree() -> bool:
            return all(member.living() == addresses and member.leader() for member in self.members)

        await_that(agree, seconds, "all members to know each other")
        return self.await_leader(seconds)

    def follower(self) -> Member:
        """One that does not lead."""
        return self.others(self.await_leader())[0]

    def await_leases(self, *ids: str) -> None:
        self.await_leader().await_leases(*ids)

    def take_over(self, end: Callable[[Member], None]) -> float:
        """Ends the leader in this way; the seconds until another one says that it leads."""
        leader = self.await_leader()
        begin = time.monotonic()
        end(leader)
        self.await_leader(TAKE_OVER_MAX, other_than=leader)
        return time.monotonic() - begin


class Client:
    """Asks members at random, and repeats at another one what was not answered, or with 503: as clients are to do.

    Everything else than that is a failure."""

    def __init__(self, cluster: Cluster, seed: int = 0, timeout: float = 3) -> None:
        self.n_repeated = 0
        self.slowest = 0.0
        self._cluster = cluster
        self._avoided: list[Member] = []
        self._rng = random.Random(seed)
        self._timeout = timeout * SLOWNESS
        self._http = requests.Session()
        self._http.trust_env = False

    def request(self, method: str, path: str, seconds: float = 60, **options: Any) -> requests.Response:
        """The first answer that is one; there must be one in time."""
        begin = time.monotonic()
        options.setdefault("timeout", self._timeout)
        while not (answer := self._once(method, path, options)):
            assert time.monotonic() - begin < seconds * SLOWNESS, f"{method} {path}: no answer in {seconds} s"
            self.n_repeated += 1
            time.sleep(0.05)
        self.slowest = max(self.slowest, time.monotonic() - begin)
        return answer[0]

    def wait(self, id: str, seconds: float = 60) -> dict[str, Any]:
        """The TaskAttempt of a task that must end in time."""
        deadline = time.monotonic() + seconds * SLOWNESS
        while True:
            answer = self.request("GET", f"/api/v1/task/{id}?wait=2", timeout=2 + self._timeout)
            assert answer.status_code == 200, f"{id}: {answer.status_code} {answer.text}"
            attempt: dict[str, Any] = answer.json()
            if attempt["state"] not in ("queued", "running"):
                return attempt
            assert time.monotonic() < deadline, f"still {attempt['state']}: {attempt}"

    def _once(self, method: str, path: str, options: dict[str, Any]) -> list[requests.Response]:
        """Of one element, or none: an answer that is a refusal counts as false."""
        candidates = self._cluster.others(*self._avoided) or self._cluster.members
        member = self._rng.choice(candidates)
        self._avoided = [member]
        try:
            answer = self._http.request(method, member.url + path, **options)
        except (*BROKEN_OFF, requests.Timeout):
            return []
        assert answer.status_code != 503 or "Retry-After" in answer.headers, f"{method} {path}: {answer.headers}"
        if answer.status_code == 503:
            return []
        self._avoided = []
        return [answer]


class Load:
    """Clients at all members that submit short tasks all the time, each of which leaves a mark where it was started."""

    def __init__(self, cluster: Cluster, n_clients: int = 3, pause: float = 0.1, n_max: int = 100_000) -> None:
        self.accepted: list[str] = []
        self.failures: list[BaseException] = []
        self._cluster, self._pause, self._n_max = cluster, pause, n_max
        self._folder = open_folder()
        self._name = task_id("load")
        self._since = time.time()
        self._clients = [Client(cluster, seed) for seed in range(n_clients)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._submit, args=(it,), daemon=True) for it in self._clients]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._stop_failed()

    def go_on(self, n: int = 10, seconds: float = 60) -> None:
        """Returns when so many more tasks have been accepted."""
        enough = len(self.accepted) + n

        def are_enough() -> bool:
            self._stop_failed()
            return len(self.accepted) >= enough

        await_that(are_enough, seconds, f"{n} more tasks to be accepted")

    def check(self, seconds: float = 60, may_be_lost: bool = False) -> list[dict[str, Any]]:
        """After the load: every task that was accepted has one result, and was started once. Returns the attempts."""
        client = Client(self._cluster, 99)
        attempts = [client.wait(id, seconds) for id in self.accepted]
        for attempt in attempts:
            id = attempt["task_id"]
            assert (attempt["state"], attempt["output"]) == ("completed", "done\n"), attempt
            assert may_be_lost or attempt["attempts"] == [], attempt
            marks = Path(self._folder, id).read_text().split()
            assert marks and set(marks) == {id}, (id, marks)
            assert len(marks) <= 1 + len(attempt["attempts"]), (marks, attempt)
        assert self._listed(client) == sorted(self.accepted)
        self._check_starts(attempts)
        repeated = sum(client.n_repeated for client in self._clients)
        slowest = max(client.slowest for client in self._clients)
        print(f"{len(attempts)} tasks; {repeated} requests were repeated, the slowest took {slowest:.2f} s")
        return attempts

    def _check_starts(self, attempts: list[dict[str, Any]]) -> None:
        """The runners have started nothing else, and nothing twice."""
        begun = starts_of(f"{self._name}.", self._since)
        assert len(begun) == len(set(begun)), f"started twice: {[id for id in set(begun) if begun.count(id) > 1]}"
        tasks = Counter(id.rpartition(".")[0] for id in begun)
        assert set(tasks) == set(self.accepted)
        for attempt in attempts:
            assert tasks[attempt["task_id"]] <= 1 + len(attempt["attempts"]), attempt

    def _listed(self, client: Client) -> list[str]:
        """The tasks of this load that the queue has, whoever lists them."""
        ids, after = [], "0"
        while after:
            query = f"/api/v1/tasks?label=load={self._name}&limit=500&after={after}"
            page = client.request("GET", query).json()
            ids += [task["task_id"] for task in page["tasks"]]
            after = page["next"]
        return sorted(ids)

    def _submit(self, client: Client) -> None:
        try:
            while not self._stop.wait(self._pause) and len(self.accepted) < self._n_max:
                id = task_id(f"{self._name}.t")
                script = f"echo {id} >> {self._folder}/{id}; sleep 0.{len(self.accepted) % 4}; echo done"
                body = {"command": ["sh", "-c", script], "labels": {"load": self._name}} | SMALL
                answer = client.request("POST", f"/api/v1/task/{id}", json=body)
                assert answer.status_code in (200, 202), f"{answer.status_code}: {answer.text}"
                self.accepted.append(id)
        except BaseException as failure:  # told by the thread that runs the test
            self.failures.append(failure)

    def _stop_failed(self) -> None:
        if self.failures:
            raise self.failures[0]


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What all of them return, called at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
