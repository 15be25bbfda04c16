# SPDX-License-Identifier: LGPL-2.1-or-later
"""What daggyr costs while there is nothing to do: wake-ups and memory of its processes."""

from __future__ import annotations

import re
import time
from pathlib import Path

from benchlib import Bed, Row, row

IDLE_SECONDS = 30
N_KEPT = 1000
IN_FLIGHT = 8


def rows(bed: Bed) -> list[Row]:
    bed.start_daggyr()
    bed.daggyr_tasks(1, 1)
    bed.await_quiet()
    fresh, helpers = _resident_kb(daemon=True), _resident_kb(daemon=False)
    seconds = bed.count(IDLE_SECONDS)
    before = _wakeups()
    time.sleep(seconds)
    wakeups = (_wakeups() - before) * IDLE_SECONDS / seconds
    bed.daggyr_tasks(bed.count(N_KEPT), IN_FLIGHT)
    bed.await_quiet()
    return [
        row(f"wake-ups in {IDLE_SECONDS} s", "", [wakeups], "lower"),
        row("memory of daggyr", "kB", [fresh], "lower"),
        row("memory of its other processes", "kB", [helpers], "lower"),
        row(f"memory of daggyr with {N_KEPT} results", "kB", [_resident_kb(daemon=True)], "lower"),
    ]


def _processes() -> dict[str, Path]:
    """Of the installed daggyr, by name."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):  # gone meanwhile
            continue
        if name.startswith("daggyr"):
            found[name] = folder
    return found


def _wakeups() -> int:
    """How often its threads have slept so far."""
    return sum(
        _status_number(thread / "status", "voluntary_ctxt_switches")
        for process in _processes().values()
        for thread in (process / "task").iterdir()
    )


def _resident_kb(daemon: bool) -> int:
    return sum(
        _status_number(process / "status", "VmRSS")
        for name, process in _processes().items()
        if (name == "daggyr") == daemon
    )


def _status_number(file: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+)", file.read_text(), re.MULTILINE)
    assert found, f"{file} has no {name}"
    return int(found[1])
