# SPDX-License-Identifier: LGPL-2.1-or-later
"""The last test of all: was every documented answer seen?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import openapi


def why_incomplete(config: pytest.Config) -> str:
    """tests/bed/system-tests runs everything but what is marked "serial", and then that, in one bed.
    This test is the last of the second run; it has something to say only when nothing was left out of
    either, and both took place. That they did shows in who saw answers: this process and others."""
    folders = {Path(config.invocation_params.dir, argument).resolve() for argument in config.args}
    if folders != {Path(__file__).parent}:
        return "only some files were tested"
    if config.getoption("keyword") or config.getoption("markexpr") != "serial":
        return "only some tests were selected, or all in one go"
    if not any(pids - {os.getpid()} for pids in openapi.seen().values()):
        return "the parallel tests were not run in this bed"
    return ""


@pytest.mark.serial
def test_every_documented_answer_was_seen(pytestconfig: pytest.Config) -> None:
    """Lost: the document would promise what no test has ever got from the server."""
    if reason := why_incomplete(pytestconfig):
        pytest.skip(reason)
    unseen = openapi.documented() - set(openapi.seen())
    assert not unseen, "\n".join(f"{name} {status}" for name, status in sorted(unseen))
