# SPDX-License-Identifier: LGPL-2.1-or-later
"""/metrics, read as Prometheus does."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from bedlib import ROOMY, Runner, await_that, open_fds, task_id, timestamp

NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL})(?:,(?:{LABEL}))*)\}})? (\S+)")
TYPES = ("counter", "gauge", "histogram")

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]


class Metrics:
    """What was exposed; parsing fails on all that the text format 0.0.4 forbids."""

    def __init__(self, text: str) -> None:
        self.samples: Samples = {}
        self.types: dict[str, str] = {}
        self._helped: set[str] = set()
        self._closed: set[str] = set()
        self._family = ""
        assert text.endswith("\n")
        for line in text.splitlines():
            if line.startswith("# HELP "):
                self._take_help(line)
            elif line.startswith("# TYPE "):
                self._take_type(line)
            else:
                self._take_sample(line)
        for family, type in self.types.items():
            if type == "histogram":
                self._check_histogram(family)

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def _take_help(self, line: str) -> None:
        found = re.fullmatch(rf"# HELP ({NAME}) \S.*", line)
        assert found, line
        assert found[1] not in self._helped, f"a second {line}"
        self._helped.add(found[1])

    def _take_type(self, line: str) -> None:
        found = re.fullmatch(rf"# TYPE ({NAME}) ({'|'.join(TYPES)})", line)
        assert found, line
        family, type = found[1], found[2]
        assert family in self._helped and family not in self.types, line
        assert type != "counter" or family.endswith("_total"), line
        self.types[family] = type
        self._family = family

    def _take_sample(self, line: str) -> None:
        found = SAMPLE.fullmatch(line)
        assert found, f"no sample: {line!r}"
        name = found[1]
        suffixes = ("_bucket", "_sum", "_count") if self.types[self._family] == "histogram" else ("",)
        assert name in [self._family + suffix for suffix in suffixes], f"{line} in {self._family}"
        labels = [item.partition("=")[::2] for item in re.findall(LABEL, found[2] or "")]
        key = name, frozenset((label, value[1:-1]) for label, value in labels)
        assert len(key[1]) == len(labels), f"a label twice: {line}"
        assert key not in self.samples, f"twice: {line}"
        value = float(found[3])
        assert math.isfinite(value) and value >= 0, line
        self.samples[key] = value

    def _check_histogram(self, family: str) -> None:
        bounds, counts = [], []
        for (name, labels), value in self.samples.items():
            if name == f"{family}_bucket":
                bounds.append(float(dict(labels)["le"].replace("+Inf", "inf")))
                counts.append(value)
        assert bounds == sorted(set(bounds)) and bounds[-1] == math.inf, bounds
        assert counts == sorted(counts)
        assert counts[-1] == self(f"{family}_count")
        assert self(f"{family}_sum") >= 0


def read(runner: Runner) -> Metrics:
    answer = runner.get("/metrics")
    assert answer.status_code == 200
    assert re.match(r"text/plain; version=0\.0\.4(;|$)", answer.headers["Content-Type"])
    return Metrics(answer.text)


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


def test_a_scrape_is_valid_before_and_after_work(start_runner: Callable[..., Runner]) -> None:
    """Lost: one line that Prometheus does not understand, and it drops all of them."""
    runner = start_runner({"capacity_overrides": {"cores": 3, "memory_mb": 4096, "gpu": 2}})
    before = read(runner)
    runner.run(["true"])
    runner.get("/no/such/path")
    runner.get("/api/v1/task/%22%0A%5C")
    after = read(runner)
    assert before.types == after.types
    assert set(before.samples) <= set(after.samples)


def test_names_follow_the_conventions(runner: Runner) -> None:
    """Lost: tools that know by its name what a metric is, such as "promtool check metrics"."""
    for name, type in read(runner).types.items():
        assert name.startswith("daggyr_")
        assert not re.search("_(ms|msec|milliseconds|us|usec|kb|mb|percent)(_|$)", name), name
        assert name.endswith("_total") == (type == "counter"), f"{name} is a {type}"


RESULTS: dict[str, dict[str, Any]] = {
    "success": {"command": ["true"]},
    "exit-code": {"command": ["false"]},
    "signal": {"command": ["sh", "-c", "kill -KILL $$"]},
    "exec-failed": {"command": ["/no/such/program"]},
    "timeout": {"command": ["sleep", "60"], "timeout": 0.2},
}


def test_each_end_moves_the_counter_of_its_result(runner: Runner) -> None:
    """Lost: alerts on failing tasks."""
    before = read(runner)
    for result, fields in RESULTS.items():
        assert runner.run(**fields)["result"] == result
    id = runner.submit(["sleep", "60"])
    runner.delete(f"/api/v1/task/{id}?wait=60")
    after = read(runner)
    moved = {
        dict(labels)["result"]: value - before.samples[name, labels]
        for (name, labels), value in after.samples.items()
        if name == "daggyr_tasks_ended_total" and value != before.samples[name, labels]
    }
    assert moved == dict.fromkeys([*RESULTS, "stopped"], 1)
    assert after("daggyr_tasks_submitted_total") - before("daggyr_tasks_submitted_total") == len(moved)


def test_tasks_and_capacity_are_shown_as_they_are_now(start_runner: Callable[..., Runner]) -> None:
    """Lost: graphs of the load, and alerts on a queue that grows."""
    runner = start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 4096, "gpu": 3}})
    resources = {"cores": 1.5, "memory_mb": 1024, "gpu": 1}
    ids = [runner.submit(["sleep", "60"], resources=resources) for _ in range(3)]
    await_that(lambda: runner.attempt(ids[0])["start_time"], what="the first")
    busy = read(runner)
    states = [busy("daggyr_tasks", state=state) for state in ("queued", "running", "finished")]
    assert states == [2, 1, 0]
    for kind, amounts in (("", (2, 4096, 3)), ("_free", (0.5, 3072, 2))):
        found = [busy(f"daggyr_capacity{kind}", resource=name) for name in ("cores", "memory_mb", "gpu")]
        assert tuple(found) == amounts
    for id in ids:
        runner.delete(f"/api/v1/task/{id}?wait=60")
    idle = read(runner)
    assert idle("daggyr_tasks", state="finished") == 3
    assert idle("daggyr_capacity_free", resource="cores") == 2


def test_times_are_sorted_into_histograms_of_seconds(runner: Runner) -> None:
    """Lost: whether the start of tasks has become slow, and how long they run."""
    before = read(runner)
    attempts = [runner.run(["sleep", "0.3"]) for _ in range(3)]
    runner.run(["/no/such/program"])  # was never executed
    after = read(runner)

    def grown(name: str) -> float:
        return after(name) - before(name)

    for name, since, until in (("start", "submit", "start"), ("run", "start", "stop")):
        assert grown(f"daggyr_task_{name}_seconds_count") == 3
        seconds = sum(timestamp(it[f"{until}_time"]) - timestamp(it[f"{since}_time"]) for it in attempts)
        assert grown(f"daggyr_task_{name}_seconds_sum") == pytest.approx(seconds, abs=0.05)


def test_output_is_counted_in_bytes_also_beyond_the_limit(start_runner: Callable[..., Runner]) -> None:
    """Lost: finding out what fills disks and journals."""
    runner = start_runner(ROOMY | {"output_max_bytes": 100})
    runner.run(["sh", "-c", "head -c 5000 /dev/zero; head -c 300 /dev/zero >&2"])
    assert read(runner)("daggyr_output_bytes_total") == 5300


def test_requests_are_counted_by_route_and_status(runner: Runner) -> None:
    """Lost: who asks for what, and which clients get errors."""

    def count(method: str, route: str, status: int) -> float:
        key = frozenset({"method": method, "route": route, "status": str(status)}.items())
        return read(runner).samples.get(("daggyr_http_requests_total", key), 0)

    task = "/api/v1/task/{task_id}"
    assert count("GET", task, 200) == 0
    id = runner.submit(["true"])
    for _ in range(3):
        runner.attempt(id)
    runner.get(f"/api/v1/task/{task_id()}")
    runner.post(f"/api/v1/task/{task_id()}", data=b"{", headers={"Content-Type": "application/json"})
    assert count("GET", task, 200) == 3
    assert count("GET", task, 404) == 1
    assert count("POST", task, 202) == 1
    assert count("POST", task, 400) == 1
    before = count("GET", "/metrics", 200)
    assert count("GET", "/metrics", 200) == before + 1


def test_no_name_that_a_client_chose_becomes_a_label(runner: Runner) -> None:
    """Lost: each task would leave a time series behind, until the monitoring breaks down."""
    mark = "Chosen7"
    lease = {"queue": f"{mark}:1", "version": mark, "ttl": 60}
    lease_id = runner.post("/api/v1/lease", json=lease).json()["lease_id"]
    headers = {"Daggyr-Lease": lease_id}
    id = f"{mark}.{task_id()}"
    body = {"command": ["echo", mark], "labels": {mark: mark}, "environment": {mark: mark}}
    assert runner.post(f"/api/v1/task/{id}", json=body, headers=headers).status_code == 202
    runner.wait(id)
    runner.post(f"/api/v1/7/{id}", json={"command": ["true"]}, headers=headers)
    for path in (f"/api/v1/task/{mark}", f"/{mark}", f"/api/v1/tasks?label={mark}=1", f"/api/v1/{mark}/x"):
        runner.get(path)
    runner.request(mark.upper(), "/ready")
    text = runner.get("/metrics").text
    assert mark.lower() not in text.lower()
    assert lease_id not in text
    known = {"state", "resource", "le", "result", "method", "route", "status"}
    assert {name for _, labels in Metrics(text).samples for name, _ in labels} <= known


def test_a_thousand_paths_do_not_make_a_thousand_series(runner: Runner) -> None:
    """Lost: the same by a client that asks for nonsense."""
    runner.get("/x/0")
    runner.get(f"/api/v1/task/{task_id()}")
    before = len(read(runner).samples)
    for n in range(200):
        runner.get(f"/x/{n}")
        runner.get(f"/api/v1/task/{task_id()}")
    assert len(read(runner).samples) - before <= 1  # GET /metrics itself


def test_the_state_of_the_daemon_is_there(runner: Runner) -> None:
    """Lost: seeing a leak of descriptors or a lost bus before tasks fail of it."""
    found = read(runner)
    assert abs(found("daggyr_open_descriptors") - len(open_fds(runner.main_pid))) <= 2
    assert found("daggyr_http_connections") == 1
    assert found("daggyr_bus_reconnects_total") == 0
    assert (found("daggyr_draining"), found("daggyr_leased")) == (0, 0)
    runner.put("/api/v1/drain", json={"drain": True})
    assert read(runner)("daggyr_draining") == 1
    runner.put("/api/v1/drain", json={"drain": False})
    runner.post("/api/v1/lease", json={"queue": "q:1", "version": "1", "ttl": 60})
    assert read(runner)("daggyr_leased") == 1
