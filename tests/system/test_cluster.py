# SPDX-License-Identifier: LGPL-2.1-or-later
"""One queue whose members share a database: that all of them are the same queue, and whom they turn away."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from bedlib import ROOMY, SLOWNESS, Queue, Runner, await_that, next_port, open_folder, task_id, timestamp
from clusterlib import MEMBER_TTL, SMALL, Cluster, Member, token_file
from ctllib import good
from postgreslib import PASSWORD, Postgres
from test_queue_tasks import read_events
from test_tls import Authority, speak_https

Starter = Callable[..., Any]

FOUR = {"capacity_overrides": {"cores": 4, "memory_mb": 4096}}


@pytest.fixture
def runner(start_runner: Starter) -> Runner:
    return start_runner(ROOMY)


@pytest.fixture
def pair(start_cluster: Starter, postgres: Postgres, runner: Runner) -> Cluster:
    """Two members with one worker, the leader first."""
    outlives_a_take_over = {"lease_ttl": 2 * MEMBER_TTL + 10}
    cluster = start_cluster({"w": runner}, [postgres.conninfo()] * 2, outlives_a_take_over)
    leader = cluster.await_leader()
    cluster.members.sort(key=lambda member: member is not leader)
    leader.await_usable("w")
    return cluster


# One member


STDIN = b"a\0b\xff\xc3\xa9\n"


def told(attempt: dict[str, Any]) -> dict[str, Any]:
    """What is the same of an attempt wherever and whenever it runs."""
    names = "state result command labels output error output_bytes exit_code worker priority".split()
    return {name: attempt.get(name) for name in names} | {"tries": len(attempt.get("attempts", []))}


def story(queue: Queue, id: str, restart: Callable[[Queue], None]) -> list[Any]:
    """What a client lives to see that does a bit of everything; ids begin with ID."""
    seen: list[Any] = []

    def see(answer: requests.Response) -> requests.Response:
        seen.append((answer.status_code, answer.headers.get("Location", "").replace(id, "")))
        return answer

    def submit(name: str, script: str, **fields: Any) -> str:
        body = {"command": ["sh", "-c", script], "labels": {"story": id}} | fields
        see(queue.post(f"/api/v1/task/{id}.{name}", json=body))
        return f"{id}.{name}"

    def look(*tasks: str) -> None:
        seen.extend(told(queue.wait(task)) for task in tasks)

    submit("first", "echo out; echo err >&2; exit 3")
    look(submit("first", "echo out; echo err >&2; exit 3"))
    see(queue.post(f"/api/v1/task/{id}.first", json={"command": ["other"]}))
    text = base64.b64encode(STDIN).decode()
    look(submit("bytes", "cat; echo \u00e9\U0001f600; head -c 3000000 /dev/zero >&2", stdin_base64=text))
    for stream in "stdout", "stderr":
        seen.append(see(queue.get(f"/api/v1/task/{id}.bytes/output?stream={stream}")).content)
    for field in {"labels": {"a": "b\0c"}}, {"stdin": "a\0b"}, {"environment": {"a": "\0"}}, {"user": "\0"}:
        see(queue.post(f"/api/v1/task/{id}.nul", json={"command": ["true"]} | field))
    look(submit("again", "false", retry={"max": 1, "backoff": 0.1}))
    see(queue.post(f"/api/v1/task/{id}.again/retry"))
    look(f"{id}.again")
    gate = submit("gate", "echo begun; sleep 60", priority=7)
    behind = submit("behind", "echo behind", after=[f"{id}.bytes"])
    never = submit("never", "echo never", after=[gate])
    look(behind)
    seen.append(queue.attempt(never)["pending"]["reason"].replace(id, ""))
    await_that(lambda: queue.get(f"/api/v1/task/{gate}/output").content, what="it to run")
    see(queue.delete(f"/api/v1/task/{gate}?wait=30"))
    look(gate, never)
    commands = [["sh", "-c", f"exit {i % 2}"] for i in range(20)]
    batch = [{"task_id": f"{id}.b{i}", "command": it, "labels": {"batch": id}} for i, it in enumerate(commands)]
    seen.append([outcome["status"] for outcome in see(queue.post("/api/v1/tasks", json=batch)).json()])
    look(*(task["task_id"] for task in batch))
    restart(queue)
    for kind in "retry", "stop", "forget":
        body = {"labels": {"batch": id}, "state": "errored"}
        seen.append(see(queue.post(f"/api/v1/tasks/{kind}", json=body)).json())
        look(*(task["task_id"] for task in (batch[::2] if kind == "forget" else batch)))
    listed = see(queue.get(f"/api/v1/tasks?label=story={id}&limit=3")).json()["tasks"]
    seen.append([task["task_id"].replace(id, "") for task in listed])
    see(queue.delete(f"/api/v1/task/{id}.first"))
    see(queue.get(f"/api/v1/task/{id}.first"))
    look(f"{id}.bytes", f"{id}.never")
    seen.append(queue.get(f"/api/v1/task/{id}.bytes/output").content)
    return json.loads(json.dumps(seen, default=repr).replace(id, ""))  # type: ignore[no-any-return]


def restart_in_order(queue: Queue) -> None:
    queue.stop()
    queue.start()


def kill_and_start(queue: Queue) -> None:
    queue.kill9()
    queue.start()


@pytest.mark.parametrize("restart", [restart_in_order, kill_and_start])
def test_a_queue_is_the_same_whatever_keeps_its_tasks(
    start_runner: Starter,
    start_queue: Starter,
    start_cluster: Starter,
    postgres: Postgres,
    restart: Callable[[Queue], None],
) -> None:
    """Lost: whatever a client relies on, with the move from a local file to a database."""
    queue = start_queue({"w": start_runner(ROOMY)})
    member = start_cluster({"w": start_runner(ROOMY)}, [postgres.conninfo()])[0]
    stories = []
    for one in queue, member:
        one.await_leases("w")
        stories.append(story(one, task_id("story"), restart))
    for with_file, with_database in zip(*stories, strict=True):
        assert with_database == with_file


# Any member


def test_every_member_serves_every_task(pair: Cluster) -> None:
    """Lost: half of the clients, or what they see of tasks that they gave to another member."""
    for here, there in (pair[0], pair[1]), (pair[1], pair[0]):
        go = open_folder() / "go"
        script = f"echo begun; while [ ! -e {go} ]; do sleep 0.1; done; head -c 2000000 /dev/zero; echo err >&2"
        id = task_id()
        seen: list[tuple[str, Any]] = []
        listening = threading.Event()
        listener = threading.Thread(
            target=lambda: seen.extend(
                read_events(there, None, lambda it: it.get("task_id") == id and it["state"] == "completed", listening)
            )
        )
        listener.start()
        assert listening.wait(30 * SLOWNESS)
        here.submit(["sh", "-c", script], id=id, labels={"number": id})
        assert there.post(f"/api/v1/task/{id}", json={"command": ["other"]}).status_code == 409
        path = f"/api/v1/task/{id}/output"
        with there.get(path, params={"follow": "true"}, stream=True) as answer:
            pieces = answer.iter_content(65536)
            assert next(pieces) == b"begun\n"
            for member in here, there:
                assert member.attempt(id)["state"] == "running"
                assert member.get(path).content == b"begun\n"
                query = {"label": f"number={id}", "state": "running"}
                listed = member.get("/api/v1/tasks", params=query).json()["tasks"]
                assert [task["task_id"] for task in listed] == [id]
            go.touch()
            assert b"".join(pieces) == bytes(2_000_000)
        listener.join(30 * SLOWNESS)
        assert [it["state"] for _, it in seen if it.get("task_id") == id] == ["queued", "running", "completed"]
        for member in there, here:
            assert told(member.wait(id)) == told(here.attempt(id))
            assert member.get(path).content == b"begun\n" + bytes(2_000_000)
            assert member.get(path, params={"stream": "stderr", "offset": 1}).content == b"rr\n"
        assert there.delete(f"/api/v1/task/{id}").status_code == 204
        assert here.get(f"/api/v1/task/{id}").status_code == 404


def test_a_task_is_stopped_through_any_member(pair: Cluster) -> None:
    """Lost: the brake, for whoever talks to the wrong member."""
    for here, there in (pair[0], pair[1]), (pair[1], pair[0]):
        id = here.submit(["sleep", "infinity"])
        await_that(lambda: there.attempt(id)["state"] == "running")
        stopped = there.delete(f"/api/v1/task/{id}?wait=30")
        assert (stopped.status_code, stopped.json()["result"]) == (202, "stopped")
        assert here.attempt(id)["state"] == "killed"


def test_a_waiter_is_woken_at_once_at_any_member(pair: Cluster) -> None:
    """Lost: seconds for each task, to members that only ask now and then."""
    for member in pair.members:
        attempt = member.wait(member.submit(["sleep", "1"]))
        assert attempt["state"] == "completed"
        assert time.time() - timestamp(attempt["stop_time"]) < 1.5 * SLOWNESS


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/api/v1/capacity", {}),
    ("HEAD", "/api/v1/tasks", {}),
    ("GET", "/api/v1/impact?cores=1", {}),
    ("GET", "/api/v1/queues", {}),
    ("GET", "/api/v1/task/none", {}),
    ("GET", "/api/v1/task/none/output", {}),
    ("GET", "/api/v1/nothing", {}),
    ("PUT", "/api/v1/tasks", {}),
    ("POST", "/api/v1/task/x", {"data": "{"}),
    ("POST", "/api/v1/task/x", {"json": {"command": []}}),
    ("POST", "/api/v1/task/x", {"json": {"command": ["true"], "resources": {"cores": 4096}}}),
    ("POST", "/api/v1/task/x", {"json": {"command": ["true"], "stdin": "x" * 9_000_000}}),
    ("POST", "/api/v1/task/x%2Fy", {"json": {"command": ["true"]}}),
    ("POST", "/api/v1/tasks", {"json": [{"task_id": "/", "command": ["true"]}]}),
    ("POST", "/api/v1/task/none/retry", {}),
    ("PUT", "/api/v1/workers/none", {"json": {"disabled": True}}),
    ("DELETE", "/api/v1/workers/w", {}),
    ("POST", "/api/v1/workers", {"json": {"id": "x"}}),
    ("GET", "/ready", {}),
    ("GET", "/", {"allow_redirects": False}),
    ("GET", "/ui/", {}),
    ("POST", "/queueVersion", {"json": {}}),
    ("POST", "/workerIds", {"json": {}}),
    ("POST", "/api/v1/task/x", {"json": {"command": ["true"]}, "headers": {"Origin": "http://evil.example"}}),
    ("GET", "/api/v1/tasks", {"headers": {"Host": "evil.example"}}),
]


def test_all_members_answer_alike(pair: Cluster) -> None:
    """Lost: what a client makes of a refusal, or a proxy's guess instead of the queue's word."""
    compared = ("Content-Type", "Location", "Allow", "Retry-After", "WWW-Authenticate", "Content-Security-Policy")
    for method, path, options in REQUESTS:
        answers = []
        for member in pair.members:
            answer = requests.request(method, member.url + path, timeout=60 * SLOWNESS, **options)
            is_json = "json" in answer.headers.get("Content-Type", "") and method != "HEAD"
            body = answer.json() if is_json else answer.text
            if path == "/api/v1/queues":
                body = body.keys()
            answers.append((answer.status_code, {name: answer.headers.get(name) for name in compared}, body))
        assert answers[0] == answers[1], (method, path)


def test_a_batch_as_large_as_may_be_goes_through_any_member(pair: Cluster) -> None:
    """Lost: large requests, where a member has to hand them on."""
    for member in pair.members:
        ids = [task_id("batch") for _ in range(1000)]
        batch = [{"task_id": id, "command": ["true", "x" * 900]} | SMALL for id in ids]
        pair[0].put("/api/v1/workers/w", json={"disabled": True})
        outcomes = member.post("/api/v1/tasks", json=batch).json()
        assert {outcome["status"] for outcome in outcomes} == {202}
        assert member.post("/api/v1/tasks/stop", json={"state": "queued"}).json() == {"matched": 1000, "changed": 1000}
        pair[0].put("/api/v1/workers/w", json={"disabled": False})


def test_workers_come_and_go_at_any_member(pair: Cluster, start_runner: Starter) -> None:
    """Lost: a machine that joined at a member that does not lead; or it is forgotten with the one that did."""
    leader, follower = pair[0], pair[1]
    new = start_runner(FOUR)
    token = "s3cr3t" + "x" * 30
    joined = follower.post("/api/v1/workers", json={"id": "new", "url": new.url, "token": token})
    assert joined.status_code == 201, joined.text
    follower.await_leases("w", "new")
    follower.put("/api/v1/workers/w", json={"disabled": True})
    assert leader.run(["true"])["worker"] == "new"
    leader.stop()
    pair.await_leader(other_than=leader)
    assert follower.run(["true"])["worker"] == "new"
    assert follower.workers()["w"]["state"] == "disabled"
    assert follower.delete("/api/v1/workers/new").status_code == 202
    await_that(lambda: "new" not in follower.workers(), 30, "it to be gone")
    assert new.get("/api/v1/lease").json()["lease"] is None
    leader.start()
    pair.await_all()
    assert leader.workers().keys() == {"w"}
    assert token not in leader.journal() + follower.journal()


def test_a_drain_holds_for_all_members(pair: Cluster) -> None:
    """Lost: maintenance, when the next member goes on with what was to stand still."""
    leader, follower = pair[0], pair[1]
    assert follower.put("/api/v1/drain", json={"drain": True}).status_code == 200
    for member in pair.members:
        refused = member.post(f"/api/v1/task/{task_id()}", json={"command": ["true"]})
        assert refused.status_code == 503 and "Retry-After" in refused.headers
    assert leader.get("/ready").status_code == 503
    leader.stop()
    pair.await_leader(other_than=leader)
    assert follower.status("POST", f"/api/v1/task/{task_id()}", json={"command": ["true"]}) == 503
    assert follower.put("/api/v1/drain", json={"drain": False}).status_code == 200
    assert follower.run(["true"])["state"] == "completed"


def test_members_know_each_other(pair: Cluster, start_member: Starter, postgres: Postgres, runner: Runner) -> None:
    """Lost: an operator's view of who is there, and who leads."""
    third = start_member({"w": runner}, postgres.conninfo())
    pair.members.append(third)
    pair.await_all()
    for member in pair.members:
        seen = member.members()
        assert {it["address"] for it in seen if it["self"]} == {member.address}
        assert [it["address"] for it in seen if it["leading"]] == [pair[0].address]
        assert {it["address"] for it in seen} == {it.address for it in pair.members}
        assert len({it["version"] for it in seen}) == 1
        printed = good(member, "members")
        assert all(it.address in printed for it in pair.members), printed
    third.stop()
    await_that(lambda: third.address not in pair[1].living(), MEMBER_TTL, "the third to have said goodbye")
    pair[1].kill9()
    await_that(lambda: pair[0].living() == {pair[0].address}, MEMBER_TTL + 2, "the second to be missed")
    assert pair[0].leads()


def test_a_queue_has_one_name_whoever_leads(pair: Cluster, runner: Runner) -> None:
    """Lost: leases, which only their holder may renew; and the trust of other queues."""

    def lease() -> dict[str, Any]:
        held: dict[str, Any] = runner.get("/api/v1/lease").json()["lease"]
        return {name: held[name] for name in ("queue", "epoch")}

    before, name = lease(), pair[0].get("/api/v1/queues").json()["self"]
    pair.take_over(Member.kill9)
    pair[1].await_leases("w")
    assert lease() == before  # the same one, and not another under the same name
    assert pair[1].get("/api/v1/queues").json()["self"] == name
    pair[0].start()
    pair.await_all()
    pair.take_over(Member.stop)
    pair[0].await_leases("w")
    assert lease() == before


# The database


def check(config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    path = open_folder("/run") / "daggyd.json"
    path.write_text(json.dumps(config))
    command = ["/usr/bin/daggyd", "--check", "--config", str(path)]
    return subprocess.run(command, text=True, capture_output=True, timeout=60 * SLOWNESS)


def test_check_tells_whether_the_database_can_be_used(start_postgres: Starter, postgres: Postgres) -> None:
    """Lost: the chance to see a mistake before a member is started with it."""

    def checked(conninfo: str) -> subprocess.CompletedProcess[str]:
        return check({"store": {"postgresql": {"conninfo": conninfo}}})

    assert checked(postgres.conninfo()).returncode == 0
    bad = {
        postgres.conninfo("nowhere"): "nowhere",
        postgres.tcp(port=next_port()): "refused",
        postgres.conninfo().replace("user=daggyr", "user=nobody"): "nobody",
        postgres.tcp("guarded"): "password",
        "nonsense": "nonsense",
        start_postgres({"fsync": "off"}).conninfo(): "fsync",
    }
    for conninfo, word in bad.items():
        done = checked(conninfo)
        assert done.returncode != 0 and word in done.stderr, (conninfo, done)
    assert postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'daggyr'") == "0"


def test_a_password_comes_from_a_file(start_member: Starter, postgres: Postgres, runner: Runner) -> None:
    """Lost: the database, to everybody who may read the configuration, or a list of processes or the log."""
    path = token_file(PASSWORD)
    store = {"store": {"postgresql": {"conninfo": postgres.tcp("guarded"), "password_file": path}}}
    member = start_member({"w": runner}, "", store)
    assert member.run(["echo", "in"])["output"] == "in\n"
    assert PASSWORD not in member.journal()
    assert PASSWORD not in Path(f"/proc/{member.main_pid}/cmdline").read_text()
    Path(path).write_text("another\n")  # which is read with the next connection
    postgres.sql("ALTER ROLE daggyr PASSWORD 'another'")
    postgres.kill9()
    postgres.start()
    await_that(lambda: member.status() == 200, 30, "the member to be back with the new password")


def refuses_in_words(member: Member, word: str) -> None:
    """It says why, to clients and in its log, and goes on living."""
    await_that(lambda: word in member.journal(), 30, f"{word!r} in the log")
    answer = member.answer()
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
    assert "application/problem+json" in answer.headers["Content-Type"]
    assert member.answer("/api/v1/members").status_code in (200, 503)
    assert member.state == "active"


Trouble = tuple[str, Callable[[Postgres], Any], Callable[[Postgres], Any], str]

TROUBLES: dict[str, Trouble] = {
    "fsync": (
        "daggyr",
        lambda server: server.configure("fsync", "off"),
        lambda server: server.configure("fsync", "on"),
        "fsync",
    ),
    "synchronous_commit": (
        "daggyr",
        lambda server: server.sql("ALTER DATABASE daggyr SET synchronous_commit = off"),
        lambda server: server.sql("ALTER DATABASE daggyr RESET synchronous_commit"),
        "synchronous_commit",
    ),
    "read-only": (
        "daggyr",
        lambda server: server.sql("ALTER DATABASE daggyr SET default_transaction_read_only = on"),
        lambda server: server.sql("ALTER DATABASE daggyr RESET default_transaction_read_only", "postgres"),
        "read-only",
    ),
    "no-database": (
        "later",
        lambda server: None,
        lambda server: server.create_database("later"),
        "later",
    ),
    "no-role": (
        "daggyr",
        lambda server: server.sql("ALTER ROLE daggyr NOLOGIN"),
        lambda server: server.sql("ALTER ROLE daggyr LOGIN"),
        "daggyr",
    ),
    "no-right": (
        "daggyr",
        lambda server: server.sql("ALTER DATABASE daggyr OWNER TO postgres"),
        lambda server: server.sql("ALTER DATABASE daggyr OWNER TO daggyr"),
        "permission denied",
    ),
    "no-server": ("daggyr", Postgres.stop, Postgres.start, "refused"),
    "silent-server": ("daggyr", Postgres.hang, Postgres.go_on, "time"),
    "no-room": (
        "daggyr",
        lambda server: server.sql("ALTER ROLE daggyr CONNECTION LIMIT 0"),
        lambda server: server.sql("ALTER ROLE daggyr CONNECTION LIMIT -1"),
        "too many connections",
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_database_that_cannot_be_used_is_told_and_waited_for(
    start_member: Starter, postgres: Postgres, runner: Runner, name: str
) -> None:
    """Lost: tasks, kept where a crash loses them; or an operator's evening, to a daemon that says nothing, floods
    the log, or has to be restarted when all is well again."""
    database, spoil, mend, word = TROUBLES[name]
    spoil(postgres)
    member = start_member({"w": runner}, postgres.tcp(database))
    refuses_in_words(member, word)
    said = member.journal().count(word)
    time.sleep(3)  # how often it is said is what is looked at
    assert member.journal().count(word) <= said + 1
    mend(postgres)
    await_that(lambda: member.status() == 200, 30, "the member to serve")
    assert member.run(["echo", "well"])["output"] == "well\n"


def test_a_wrong_password_is_told_and_its_correction_taken(
    start_member: Starter, postgres: Postgres, runner: Runner
) -> None:
    """Lost: the reason why nothing works after a password was changed."""
    path = token_file("wrong password")
    store = {"store": {"postgresql": {"conninfo": postgres.tcp("guarded"), "password_file": path}}}
    member = start_member({"w": runner}, "", store)
    refuses_in_words(member, "password authentication failed")
    assert "wrong password" not in member.journal()
    Path(path).write_text(PASSWORD + "\n")
    await_that(lambda: member.status() == 200, 30, "the member to serve")


def test_a_database_in_use_that_turns_unsafe_is_left_alone(pair: Cluster, postgres: Postgres) -> None:
    """Lost: what is accepted after an administrator's shortcut, with the next power cut."""
    postgres.sql("ALTER DATABASE daggyr SET synchronous_commit = off")
    postgres.kill9()
    postgres.start()
    refuses_in_words(pair[0], "synchronous_commit")
    postgres.sql("ALTER DATABASE daggyr RESET synchronous_commit")
    await_that(lambda: pair[0].status() == pair[1].status() == 200, 30, "the members to serve")


def test_a_database_of_a_later_version_is_left_alone(
    start_member: Starter, postgres: Postgres, runner: Runner
) -> None:
    """Lost: a queue, to a member that was forgotten in an upgrade."""
    member = start_member({"w": runner}, postgres.conninfo())
    id = member.run(["true"])["task_id"]
    member.stop()
    version = postgres.sql("SELECT version FROM schema_version")
    postgres.sql("UPDATE schema_version SET version = 99")
    member.start()
    refuses_in_words(member, "a later daggyd")
    assert postgres.sql("SELECT version FROM schema_version") == "99"
    postgres.sql(f"UPDATE schema_version SET version = {version}")
    await_that(lambda: member.status() == 200, 30, "the member to serve")
    assert member.attempt(id)["state"] == "completed"


@pytest.mark.parametrize("is_synchronous", [False, True])
def test_a_standby_that_may_know_less_is_warned_of(
    start_postgres: Starter, start_member: Starter, postgres: Postgres, runner: Runner, is_synchronous: bool
) -> None:
    """Lost: what was accepted last, with the primary, to a setting that is the default of those who set up standbys."""
    start_postgres(follows=postgres, is_synchronous=is_synchronous)
    member = start_member({"w": runner}, postgres.conninfo())
    assert member.run(["true"])["state"] == "completed"
    if not is_synchronous:
        await_that(lambda: "synchronous_standby_names" in member.journal(), MEMBER_TTL, "the warning")
    time.sleep(MEMBER_TTL)  # whether it is said again, or at all, is what is looked at
    assert member.journal().count("synchronous_standby_names") == (0 if is_synchronous else 1)


def test_a_full_database_refuses_and_recovers(pair: Cluster, postgres: Postgres) -> None:
    """Lost: tasks that are said to be taken but are nowhere; results, because the disk was full for a while."""
    go = open_folder() / "go"
    id = pair[1].submit(["sh", "-c", f"while [ ! -e {go} ]; do sleep 0.1; done; head -c 300000 /dev/urandom"])
    await_that(lambda: pair[0].attempt(id)["state"] == "running")
    # What stands in for a full disk: the table of the outputs takes nothing more.
    postgres.sql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;"
        "DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname NOT IN"
        " ('pg_catalog', 'information_schema') AND tablename NOT IN ('member', 'lead') LOOP EXECUTE format("
        "'CREATE TRIGGER full_disk BEFORE INSERT ON %I EXECUTE FUNCTION full_disk()', t); END LOOP; END $$"
    )
    refused = pair[1].post(f"/api/v1/task/{task_id()}", json={"command": ["true"]}, timeout=60 * SLOWNESS)
    assert refused.status_code == 503 and "Retry-After" in refused.headers, refused.text
    go.touch()
    await_that(lambda: "Cannot store" in pair[0].journal(), 20, "daggyd to say that it cannot store")
    assert pair[0].attempt(id)["state"] == "running"
    # To drop the triggers takes all the tables' locks, one after the other, beside transactions that want them, too.
    function = "CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
    postgres.sql(f"{function} $$ BEGIN RETURN NEW; END $$")
    assert pair[1].wait(id, 60)["state"] == "completed"
    assert len(pair[1].get(f"/api/v1/task/{id}/output").content) == 300_000
    assert pair[1].run(["echo", "room"])["output"] == "room\n"


# Whoever has no right


SQL = "x'; DROP TABLE tasks; DROP SCHEMA public CASCADE; --\"); \\'; $$; %s; /*"


def test_sql_is_only_text(pair: Cluster, start_runner: Starter, postgres: Postgres) -> None:
    """Lost: everything, to whoever may submit a task."""
    count = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    n_tables = postgres.sql(count)
    for member in pair.members:
        id = task_id("sql") + "'--"
        script = "cat; printf %s \"$SQL\"; printf %s \"$0\" >&2"
        assert member.status("POST", f"/api/v1/task/{quote(id)}", json={"command": ["true"]}) == 400
        task = member.submit(["sh", "-c", script, SQL], labels={"k": SQL}, environment={"SQL": SQL}, stdin=SQL)
        attempt = member.wait(task)
        assert (attempt["output"], attempt["error"], attempt["command"][-1]) == (SQL + SQL, SQL, SQL), attempt
        assert attempt["labels"]["k"] == SQL
        listed = member.get("/api/v1/tasks", params={"label": f"k={SQL}"}).json()["tasks"]
        assert task in [it["task_id"] for it in listed]
        for path in "tasks?after=", "tasks?state=", "tasks?label=", "task/", "workers/":
            assert member.status("GET", f"/api/v1/{path}{quote(SQL, safe='')}") in (200, 400, 404, 405), path
        for body in {"labels": {"k": SQL}, "state": "errored"}, {"labels": {SQL: SQL}}:
            assert member.post("/api/v1/tasks/retry", json=body).status_code in (200, 400)
        bad = member.post(f"/api/v1/task/{task_id()}", json={"command": ["true"], "after": [SQL]})
        assert bad.status_code in (400, 422)
    id = SQL.replace("/", "|")
    runner = start_runner(FOUR)
    joined = pair[1].post("/api/v1/workers", json={"id": id, "url": runner.url, "token": "';DROP_TABLE_tasks;--"})
    assert joined.status_code == 201, joined.text
    assert pair[0].workers().keys() == {"w", id}
    assert pair[1].delete("/api/v1/workers/" + quote(id, safe="")).status_code == 202
    assert postgres.sql(count) == n_tables


TOKEN = "correct-horse-battery-staple"
MEMBER_HEADER = "Daggyd-Member"


def test_a_token_counts_at_every_member(start_cluster: Starter, postgres: Postgres, runner: Runner) -> None:
    """Lost: the queue, to whoever finds a member that hands on what it has not looked at; or that says to be one."""
    cluster = start_cluster({"w": runner}, [postgres.conninfo()] * 2, token=TOKEN)
    new = {"id": "stranger", "url": runner.url}
    strangers: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer " + "w" * 40},
        {MEMBER_HEADER: "0" * 32},
        {MEMBER_HEADER: ""},
        {MEMBER_HEADER: "%"},
        {MEMBER_HEADER: "' OR ''='"},
        {MEMBER_HEADER: "0" * 32, "Authorization": f"Bearer {TOKEN}"},
    ]
    for member in cluster.members:
        for headers in strangers:
            for method, path, body in (
                ("POST", "/api/v1/workers", new),
                ("DELETE", "/api/v1/workers/w", None),
                ("POST", f"/api/v1/task/{task_id()}", {"command": ["true"]}),
                ("GET", "/api/v1/tasks", None),
                ("GET", "/api/v1/members", None),
            ):
                answer = requests.request(method, member.url + path, json=body, headers=headers, timeout=60 * SLOWNESS)
                assert answer.status_code == 401, (headers, method, path, answer.status_code)
                assert "WWW-Authenticate" in answer.headers
        assert member.run(["echo", "let in"])["output"] == "let in\n"
        assert member.workers().keys() == {"w"}


def test_members_know_each_other_by_certificates(
    start_member: Starter, postgres: Postgres, runner: Runner
) -> None:
    """Lost: encryption between members, or all but one of them where clients show certificates."""
    ours = Authority("ours")
    cert, key = ours.give("member", "serverAuth,clientAuth")
    key.chmod(0o644)
    config = {"tls": {"cert": str(cert), "key": str(key), "client_ca": str(ours.cert)}}
    members = [start_member({"w": runner}, postgres.conninfo(), config) for _ in range(2)]
    for member in members:
        speak_https(member, ours, (cert, key))
    cluster = Cluster(members)
    cluster.await_all()
    for here, there in members, members[::-1]:
        id = here.submit(["echo", "secret"])
        assert there.wait(id)["output"] == "secret\n"


def test_nobody_is_told_the_members_secrets(start_cluster: Starter, postgres: Postgres, runner: Runner) -> None:
    """Lost: the queue, to whoever may look at it."""
    cluster = start_cluster({"w": runner}, [postgres.conninfo()] * 2)
    secrets = [row["secret"] for row in postgres.rows("SELECT secret FROM member")]
    assert len(set(secrets)) == 2 and all(len(secret) >= 32 for secret in secrets)
    told_things = [
        member.get(path).text
        for member in cluster.members
        for path in ("/api/v1/members", "/metrics", "/api/v1/workers", "/api/v1/queues", "/api/v1/capacity")
    ] + [member.journal() for member in cluster.members]
    told_things += [runner.get("/api/v1/lease").text, postgres.journal()]
    assert not any(secret in text for secret in secrets for text in told_things)


def test_a_member_with_a_wrong_token_of_a_worker_loses_nothing(
    start_member: Starter, start_runner: Starter, postgres: Postgres
) -> None:
    """Lost: tasks, to a mistake in the configuration of one member that shows when it comes to lead."""
    runner = start_runner(ROOMY | {"auth": {"token_file": token_file(TOKEN)}})
    worker = {"id": "w", "url": runner.url}
    good_config = {"workers": [worker | {"token_file": token_file(TOKEN)}], "lost_after": 60}
    bad_config = {"workers": [worker | {"token_file": token_file("w" * 40)}], "lost_after": 60}
    right = start_member({}, postgres.conninfo(), good_config)
    right.await_leases("w")
    wrong = start_member({}, postgres.conninfo(), bad_config)
    cluster = Cluster([right, wrong])
    cluster.await_all()
    id = right.submit(["sh", "-c", "sleep 3; echo end"])
    await_that(lambda: wrong.attempt(id)["state"] == "running")
    right.kill9()
    assert cluster.await_leader() is wrong
    await_that(lambda: wrong.workers()["w"]["state"] == "silent", 30, "the worker to be out of reach")
    assert "401" in wrong.journal()
    waiting = wrong.submit(["echo", "waited"])
    right.start()
    cluster.await_all()
    wrong.stop()
    assert cluster.await_leader() is right
    for task, output in (id, "end\n"), (waiting, "waited\n"):
        attempt = right.wait(task)
        assert (attempt["output"], attempt["attempts"]) == (output, [])
