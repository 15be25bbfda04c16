# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory that nobody frees; collected in sanitized builds only."""

from __future__ import annotations

from collections.abc import Callable

from bedlib import ROOMY, Runner, run, task_id, unit_property

# LeakSanitizer stops all threads with ptrace().
LEAKS = {
    "Environment": "ASAN_OPTIONS=detect_leaks=1",
    "SystemCallFilter": "@debug",
    "TimeoutStopSec": "30",
    "WatchdogSec": "0",
}


def use_everything(runner: Runner) -> None:
    """One request of each kind, with tasks that end in different ways."""
    for command in (["true"], ["false"], ["/no/such/program"], ["sh", "-c", "echo out; echo err >&2"]):
        runner.run(command)
    live = runner.submit(["sleep", "60"])
    runner.delete(f"/api/v1/task/{live}", params={"wait": 30})
    for path in ("/ready", "/metrics", "/api/v1/capacity", "/api/v1/impact?cores=1", "/api/v1/tasks"):
        assert runner.get(path).status_code == 200
    assert runner.post("/api/v1/task", data="{", headers={"Content-Type": "application/json"}).status_code == 400
    lease = {"queue": "queue.example:1", "version": "1", "ttl": 60}
    assert runner.post("/api/v1/lease", json=lease).status_code == 201
    path = f"/api/v1/7/{task_id()}"
    assert runner.post(path, json={"command": ["true"]}).status_code == 423


def test_a_daemon_that_was_used_and_stopped_has_freed_everything(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: a runner that is up for months would be killed for memory."""
    for _ in range(5):
        runner = start_runner(ROOMY, LEAKS)
        use_everything(runner)
        run("systemctl", "stop", runner.unit)
        result = unit_property(runner.unit, "Result")
        if result != "timeout":  # the sanitizer's own hang: another try
            break
    assert result == "success", runner.journal()
