# SPDX-License-Identifier: LGPL-2.1-or-later
"""How fast a task can write, beside a pipe that nobody looks into."""

from __future__ import annotations

import subprocess
import time
from functools import partial

from benchlib import COMMAND_SECONDS_MAX, ROOMY, Bed, Row, row

N_BYTES = 2 << 30


def rows(bed: Bed) -> list[Row]:
    # The answer shall not have its beginning.
    bed.start_daggyr(ROOMY | {"inline_output_bytes": 0})
    n = bed.count(N_BYTES)
    outcomes = bed.in_turns({"pipe": partial(_through_pipe, n), "daggyr": partial(_through_daggyr, bed, n)})
    bed.details["output"] = outcomes
    return [row("output of a task", "MB/s", outcomes["daggyr"], "higher", outcomes["pipe"])]


def _through_pipe(n: int) -> float:
    start = time.monotonic()
    subprocess.run(
        f"head -c {n} /dev/zero | cat >/dev/null", shell=True, check=True, timeout=COMMAND_SECONDS_MAX
    )
    return n / 1e6 / (time.monotonic() - start)


def _through_daggyr(bed: Bed, n: int) -> float:
    outcome = bed.daggyr_tasks(1, 1, command=["head", "-c", str(n), "/dev/zero"])
    return n / 1e6 / outcome["seconds"]
