# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures daggyr beside what the machine can do at best.

Runs inside a bed in which the build DAGGYR_BUILD is installed; ./dev bench boots one.

A module NAME_rows.py has "def rows(bed: Bed) -> list[Row]" and is the group NAME.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

from benchlib import Bed, Row, command
from goals import GOALS

FOLDER = Path(__file__).parent
ROUNDS = 5
FIGURES = ("value", "beside", "ratio")


def groups() -> list[str]:
    return sorted(path.name.removesuffix("_rows.py") for path in FOLDER.glob("*_rows.py"))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "rows", nargs="*", metavar="ROWS", help=f"groups of rows, default all: {' '.join(groups())}"
    )
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help=f"of each measure, in turns; default {ROUNDS}"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies all counts; for a first look")
    parser.add_argument("--json", type=Path, help="where the outcome goes as JSON")
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - set(groups())
    if unknown:
        parser.error(f"no such rows: {' '.join(sorted(unknown))} (there are {' '.join(groups())})")
    return arguments


def judged(row: Row) -> float | None:
    """What the row's goal is about, None when there is none."""
    goal = GOALS.get(row["name"])
    return None if goal is None else row[goal.of]  # type: ignore[literal-required]


def is_met(row: Row) -> bool | None:
    value = judged(row)
    if row["name"] not in GOALS:
        return None
    limit = GOALS[row["name"]].limit
    return value is not None and (value >= limit if row["better"] == "higher" else value <= limit)


def machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "systemd": command("systemctl", "--version").split()[1],
        "cgroups": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1 or hybrid",
        "load": os.getloadavg()[0],
    }


def figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(rows: list[Row]) -> str:
    head = ["row", "value", "unit", "beside", "ratio", "goal", ""]
    lines = [head]
    for row in rows:
        met = is_met(row)
        goal = GOALS.get(row["name"])
        sign = "≥" if row["better"] == "higher" else "≤"
        lines.append(
            [
                row["name"],
                figure(row["value"]),
                row["unit"],
                figure(row.get("reference")),
                figure(row.get("ratio")),
                f"{sign} {goal.limit:g}{'' if goal.of == 'ratio' else ' ' + row['unit']}" if goal else "",
                {None: "", True: "met", False: "MISSED"}[met],
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    aligned = []
    for line in lines:
        cells = [
            cell.rjust(width) if title in FIGURES else cell.ljust(width)
            for title, cell, width in zip(head, line, widths)
        ]
        aligned.append("  ".join(cells).rstrip())
    return "\n".join(aligned)


def main() -> int:
    arguments = parse_arguments()
    bed = Bed(Path(os.environ["DAGGYR_BUILD"], "tests/bench"), arguments.rounds, arguments.scale)
    start = time.monotonic()
    rows: list[Row] = []
    for group in arguments.rows or groups():
        rows += importlib.import_module(f"{group}_rows").rows(bed)
    for row in rows:
        goal = GOALS.get(row["name"])
        row["goal"] = goal.limit if goal else None
    missed = [row["name"] for row in rows if is_met(row) is False]
    about = machine()
    outcome = {"machine": about, "rounds": bed.rounds, "rows": rows, "missed": missed, "details": bed.details}
    if arguments.json:
        arguments.json.write_text(json.dumps(outcome, indent=1) + "\n")
    print(table(rows))
    print(f"\n{', '.join(f'{key} {value}' for key, value in about.items())}")
    print(f"{bed.rounds} rounds in {time.monotonic() - start:.0f} s; {len(missed)} goals missed")
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
