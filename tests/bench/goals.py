# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ./dev bench --check insists on: one table for all rows."""

from __future__ import annotations

from benchlib import Goal

GOALS = {
    # Tasks per second, beside the bare loop.
    "launch, 1 in flight": Goal(0.75),
    "launch, 8 in flight": Goal(0.85),
    "launch, 32 in flight": Goal(0.85),
    "launch, 8 in flight, beside systemd-run": Goal(2.2),
    # CPU time for each task, beside what the bare loop makes the same process use.
    "CPU of PID 1, 8 in flight": Goal(1.15),
    "CPU of polkitd, 8 in flight": Goal(0.02, of="value"),
    # Beside libmicrohttpd alone, and beside a pipe.
    "GET /ready": Goal(0.8),
    "GET of an attempt": Goal(0.8),
    "output of a task": Goal(0.75),
    # Of the queue: tasks per second, beside the runner alone, or beside the row for 100 fake runners.
    "through the queue, 8 in flight": Goal(0.85),
    "through the queue, submit to result": Goal(1.5),
    "submissions that the runner refused": Goal(1, of="value"),
    "accepted in batches, 1 in flight": Goal(5000, of="value"),
    "accepted in batches, 32 in flight": Goal(5000, of="value"),
    "accepted one by one, 32 in flight": Goal(1500, of="value"),
    "whole cycles at 100 fake runners": Goal(1500, of="value"),
    "whole cycles at 1000 fake runners": Goal(0.8),
    "CPU load of daggyd at 100 fake runners": Goal(1, of="value"),
    # Of the queue over PostgreSQL: beside that with a local file, or tasks per second.
    "accepted in batches with PostgreSQL, one member": Goal(5000, of="value"),
    "whole cycles with PostgreSQL, one member": Goal(0.6),
    # With a million tasks that wait and a million that have finished, beside a thousand of each.
    "accepted in batches with PostgreSQL, a million waiting and finished": Goal(0.8),
    "whole cycles with PostgreSQL, a million waiting and finished": Goal(0.8),
    "placement among 10000 workers, median": Goal(50, of="value"),
    "placement among 100000 workers, median": Goal(1000, of="value"),
    # What was measured when these were set, and a quarter more: 6.8 and 11.1 MB; 2 to 4 wake-ups, two of them
    # for the watchdog. The spawner alone had 0.8 MB; the rest is left for a process that speaks to the bus.
    "memory of daggyr": Goal(8500, of="value"),
    "memory of daggyr with 1000 results": Goal(13900, of="value"),
    "memory of its other processes": Goal(6000, of="value"),
    "wake-ups in 30 s": Goal(5, of="value"),
}
