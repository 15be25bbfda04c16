# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/monitoring: rules and a dashboard that the real promtool understands, of metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bedlib import ROOMY, SLOWNESS

pytestmark = pytest.mark.plain

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "docs/monitoring/alerts.yaml"
ALERT_TESTS = ROOT / "tests/monitoring/alerts-test.yaml"
DASHBOARD = json.loads((ROOT / "docs/monitoring/dashboard.json").read_text())
SCHEMA = json.loads((ROOT / "tests/monitoring/dashboard.schema.json").read_text())

RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Debian 12 has none by itself: tests/bed/install-packages takes it out of a larger package.
PROMTOOL = shutil.which("promtool", path="/usr/bin:/usr/local/bin") or "promtool"

EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        [PROMTOOL, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300 * SLOWNESS
    )
    assert done.returncode == 0, done.stdout


def metrics_in(expression: str) -> Iterator[tuple[str, str]]:
    """Each daggy… metric, with what stands in the braces behind it."""
    for found in re.finditer(r"\b(daggy[rd]_[a-z0-9_]+)(?:\{([^}]*)\})?", expression):
        yield found[1], found[2] or ""


@pytest.fixture
def scraped(start_runner: Callable[..., Any], start_queue: Callable[..., Any]) -> list[tuple[str, dict[str, str]]]:
    """All samples of a runner and a queue that have worked."""
    runner = start_runner(ROOMY)
    queue = start_queue({"w": runner})
    queue.await_leases("w")
    queue.run(["true"])
    samples = []
    for daemon in (runner, queue):
        answer = daemon.get("/metrics").text
        for name, labels in re.findall(r"^([a-z0-9_]+)(?:\{(.*)\})? \S+$", answer, re.M):
            samples.append((name, dict(re.findall(r'(\w+)="([^"]*)"', labels))))
    return samples


def test_promtool_understands_the_alerts() -> None:
    """Lost: a Prometheus that starts, with these rules."""
    promtool("check", "rules", str(ALERTS))


def test_each_alert_is_silent_and_speaks_when_it_should() -> None:
    """Lost: alerts that never come, or always."""
    promtool("test", "rules", str(ALERT_TESTS))
    tested = {test["name"] for test in yaml.safe_load(ALERT_TESTS.read_text())["tests"]}
    assert tested == {rule["alert"] for rule in RULES}


def test_promtool_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    """Lost: a panel that shows an error instead of a graph."""
    rules = []
    for n, expression in enumerate(EXPRESSIONS):
        for name, value in (("$__rate_interval", "5m"), ("$runner", ".*"), ("$queue", ".*")):
            expression = expression.replace(name, value)
        assert "$" not in expression
        rules.append({"record": f"panel:{n}", "expr": expression})
    path = tmp_path / "dashboard.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(path))


@pytest.mark.parametrize("where", ["alerts", "dashboard"])
def test_each_metric_and_label_there_is_one(scraped: list[tuple[str, dict[str, str]]], where: str) -> None:
    """Lost: alerts and graphs of what was renamed."""
    queries = [variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable]
    expressions = [rule["expr"] for rule in RULES] if where == "alerts" else EXPRESSIONS + queries
    n = 0
    for expression in expressions:
        for name, selector in metrics_in(expression):
            known = [labels for sample, labels in scraped if sample == name]
            assert known, f"there is no {name}"
            n += 1
            for label, operator, value in re.findall(r'(\w+)(=~?)"([^"]*)"', selector):
                if label in ("job", "instance"):  # Prometheus' own
                    continue
                wanted = set(value.split("|") if operator == "=~" else [value])
                values = {labels[label] for labels in known}
                # Which statuses there were is a matter of requests.
                assert wanted <= values or label == "status", f"{name}{{{label}}}: {wanted - values}"
    assert n >= 15


def test_metrics_that_there_are_can_be_seen(scraped: list[tuple[str, dict[str, str]]]) -> None:
    """Lost: a metric that nobody looks at, for lack of a panel."""
    used = {name for expression in EXPRESSIONS + [rule["expr"] for rule in RULES] for name, _ in metrics_in(expression)}
    unseen = {"daggyr_leased", "daggyr_http_requests_total", "daggyd_open_descriptors", "daggyr_memory_pressure_ratio"}
    there = {re.sub("_(bucket|sum|count)$", "_bucket", name) for name, _ in scraped}
    assert there - used <= unseen


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    """Lost: the import."""
    jsonschema.validate(DASHBOARD, SCHEMA)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    text = json.dumps(DASHBOARD)
    assert set(re.findall(r"\$\{?([a-z]+)", text)) - {"__all"} <= variables
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in PANELS:
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


def test_no_panel_lies_upon_another() -> None:
    """Lost: the one below."""
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} and {taken[x, y]}"
                taken[x, y] = panel["title"]
