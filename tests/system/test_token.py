# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bearer token: who has none gets nothing over TCP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bedlib import Runner, open_folder, task_id

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(params=["file", "credential"])
def guarded(request: pytest.FixtureRequest, start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr that asks for a token, told in one of the two ways."""
    path = Path(open_folder("/etc"), "token")  # the service sees no /tmp of others
    path.write_text(TOKEN + "\n")
    path.chmod(0o644)
    if request.param == "file":
        return start_runner({"auth": {"token_file": str(path)}})
    return start_runner(properties={"LoadCredential": f"daggyr.token:{path}"})


def submit(runner: Runner, authorization: str | None) -> int:
    headers = {"Authorization": authorization} if authorization is not None else {}
    answer = runner.post(f"/api/v1/task/{task_id()}", json={"command": ["true"]}, headers=headers)
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    return answer.status_code


def test_only_the_token_opens_the_door(guarded: Runner) -> None:
    """Lost: on a host with many users anybody could run tasks."""
    assert submit(guarded, f"Bearer {TOKEN}") == 202
    for wrong in (None, "", "Bearer", "Bearer wrong-horse-battery-staple", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        assert submit(guarded, wrong) == 401
    assert guarded.get("/api/v1/capacity").status_code == 401
    assert guarded.get("/metrics").status_code == 401


def test_readiness_needs_no_token(guarded: Runner) -> None:
    """Lost: load balancers would have to hold the secret."""
    assert guarded.get("/ready").status_code == 200


def test_with_a_token_other_host_names_are_welcome(guarded: Runner) -> None:
    """Lost: a runner behind a name that it does not know itself."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "runner.example"}
    assert guarded.get("/api/v1/capacity", headers=headers).status_code == 200


def test_a_task_cannot_read_the_credential(guarded: Runner) -> None:
    """Lost: every task could submit others."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    id = task_id()
    body = {"command": ["sh", "-c", f"cat /run/credentials/{guarded.unit}/*; env"]}
    assert guarded.post(f"/api/v1/task/{id}", json=body, headers=headers).status_code == 202
    attempt = guarded.get(f"/api/v1/task/{id}?wait=30", headers=headers).json()
    assert "CREDENTIALS_DIRECTORY" not in attempt["output"]
    assert TOKEN not in attempt["output"]
