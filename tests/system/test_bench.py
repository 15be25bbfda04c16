# SPDX-License-Identifier: LGPL-2.1-or-later
"""./dev bench, with counts so small that it only shows whether everything still runs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedlib import PYTHON, open_folder, run

BENCH = Path(__file__).parents[1] / "bench" / "bench.py"
CONFIG = Path("/etc/daggyr/daggyr.json")

pytestmark = [
    pytest.mark.serial,
    pytest.mark.plain,
    pytest.mark.skipif("DAGGYR_BUILD" not in os.environ, reason="needs the tools of the build"),
]


@pytest.fixture
def installed_daggyr() -> Iterator[None]:
    """What it does to the installed daggyr is undone."""
    config = CONFIG.read_text() if CONFIG.exists() else None
    CONFIG.parent.mkdir(exist_ok=True)
    yield
    run("systemctl", "stop", "daggyr.socket", "daggyr.service")
    if config is None:
        CONFIG.unlink(missing_ok=True)
    else:
        CONFIG.write_text(config)


def test_every_row_of_the_benchmark_is_measured(installed_daggyr: None) -> None:
    """Lost: knowing what a change costs, when the benchmark no longer runs on the day it is needed."""
    outcome_file = open_folder() / "bench.json"
    # Not those of the queue, which take minutes however small they are.
    groups = ["launch", "http", "output", "idle"]
    printed = run(PYTHON, "-B", str(BENCH), "--rounds", "1", "--scale", "0.01", "--json", str(outcome_file), *groups)

    outcome = json.loads(outcome_file.read_text())
    rows = {row["name"]: row for row in outcome["rows"]}
    for name in ("launch, 1 in flight", "launch, 8 in flight", "GET /ready", "output of a task"):
        assert rows[name]["ratio"] > 0, rows[name]
        assert rows[name]["goal"], rows[name]
    assert rows["CPU of PID 1, 8 in flight"]["reference"] > 0
    assert rows["CPU of leaders and commands, 8 in flight"]["value"] >= 0
    assert all(name in printed for name in rows)
    assert set(outcome["missed"]) <= {name for name, row in rows.items() if row["goal"] is not None}


def test_a_missed_goal_fails_the_check_and_nothing_else(installed_daggyr: None, tmp_path: Path) -> None:
    """Lost: a slow change would pass, or every run would look like a failure."""
    ours = tmp_path / "bench"
    ours.mkdir()
    for module in ("bench.py", "benchlib.py"):
        (ours / module).write_text((BENCH.parent / module).read_text())
    (ours / "some_rows.py").write_text(
        "from benchlib import row\n"
        "def rows(bed):\n"
        "    return [row('slow', 'x', [1.0, 3.0, 2.0], 'higher', [2.0, 2.0, 2.0]),"
        " row('small', 'kB', [7.0], 'lower')]\n"
    )

    def exit_status(goals: str, *arguments: str) -> int:
        (ours / "goals.py").write_text(f"from benchlib import Goal\nGOALS = {goals}\n")
        command = [PYTHON, "-B", str(ours / "bench.py"), *arguments]
        return subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60).returncode

    assert exit_status("{'slow': Goal(1.0)}", "--check") == 0
    assert exit_status("{'slow': Goal(1.01)}", "--check") == 1
    assert exit_status("{'slow': Goal(1.01)}") == 0
    assert exit_status("{'small': Goal(7, of='value')}", "--check") == 0
    assert exit_status("{'small': Goal(6.9, of='value')}", "--check") == 1
