# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyctl context: daemons by name, and who wins when several things say where."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bedlib import ROOMY, SLOWNESS, Runner, open_folder
from ctllib import environment

Starter = Callable[..., Any]
NOBODY = "http://127.0.0.1:1"


class Home:
    """daggyctl of somebody whose home this is."""

    def __init__(self) -> None:
        self.folder = open_folder()
        self.file = self.folder / ".config/daggyr/ctl.json"

    def ctl(self, *arguments: str, host: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["daggyctl", *arguments],
            env=environment(host, HOME=str(self.folder), XDG_CONFIG_HOME="") | more,
            text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60 * SLOWNESS, cwd=self.folder,
        )

    def good(self, *arguments: str, **options: Any) -> str:
        done = self.ctl(*arguments, **options)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout


@pytest.fixture
def home() -> Home:
    return Home()


@pytest.fixture
def runner(start_runner: Starter) -> Runner:
    return start_runner(ROOMY)


def test_a_context_is_set_used_and_removed(home: Home, runner: Runner) -> None:
    """Lost: a name for what would be typed each time."""
    home.good("context", "set", "here", "--host", runner.url)
    home.good("context", "set", "q.1", "-q", "-H", "build1", "--token-file", "secret")
    home.good("context", "use", "here")
    assert home.good("run", "echo", "x") == "x\n"
    lines = [line.split() for line in home.good("context", "list").splitlines()]
    assert lines[0] == ["CURRENT", "NAME", "HOST", "DAEMON", "TOKEN-FILE"]
    assert lines[1:] == [
        ["*", "here", runner.url, "runner", "-"],
        ["-", "q.1", "build1", "queue", str(home.folder / "secret")],
    ]
    home.good("context", "use", "q.1")
    home.good("context", "remove", "q.1")
    assert "q.1" not in home.good("context", "list")
    assert home.ctl("context", "use", "q.1").returncode == 2
    assert "current" not in json.loads(home.file.read_text())


def test_nobody_else_reads_it(home: Home) -> None:
    """Lost: the secrecy of where secrets are."""
    home.good("context", "set", "a", "-H", "x", "--token-file", "/secret")
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.file.parent.stat().st_mode) == 0o700


def test_who_goes_before_whom(home: Home, runner: Runner) -> None:
    """Lost: knowing which daemon a command goes to: --host or --queue, --context, $DAGGYCTL_HOST, the one in use."""
    home.good("context", "set", "here", "--host", runner.url)
    home.good("context", "set", "gone", "--host", NOBODY)
    home.good("context", "use", "gone")
    assert home.ctl("list").returncode == 123
    home.good("list", host=runner.url)  # $DAGGYCTL_HOST
    home.good("list", "--context", "here", host=NOBODY)
    home.good("list", "--host", runner.url)
    assert home.ctl("list", "--host", NOBODY, host=runner.url).returncode == 123
    home.good("context", "use", "here")
    home.good("list")
    both = home.ctl("list", "--context", "here", "--host", NOBODY)
    assert both.returncode == 2 and "--context" in both.stderr
    unknown = home.ctl("list", "--context", "nowhere")
    assert unknown.returncode == 2 and "nowhere" in unknown.stderr
    home.good("context", "use")
    assert "*" not in home.good("context", "list")


def test_the_token_of_a_context_goes_nowhere_else(home: Home, start_runner: Starter) -> None:
    """Lost: a secret, shown to the daemon of somebody else."""
    secret = Path(open_folder("/etc"), "token")
    secret.write_text("open-sesame-0123456789abcdef0123\n")
    secret.chmod(0o644)
    runner = start_runner({"auth": {"token_file": str(secret)}})
    home.good("context", "set", "here", "--host", runner.url, "--token-file", str(secret))
    home.good("context", "use", "here")
    assert home.good("run", "echo", "x") == "x\n"
    assert home.ctl("list", "--host", runner.url).returncode == 125
    assert home.ctl("list", host=runner.url).returncode == 125


def test_a_broken_file_is_named(home: Home, runner: Runner) -> None:
    """Lost: the reason, and all that does not need the file."""
    home.file.parent.mkdir(parents=True)
    for content in ("{", "[]"):
        home.file.write_text(content)
        done = home.ctl("list")
        assert done.returncode == 2 and str(home.file) in done.stderr
        home.good("list", "--host", runner.url)


@pytest.mark.parametrize("arguments", [["set", "a/b", "-H", "x"], ["set", "a"], ["set"], ["list", "a"], ["what"], ["remove", "x"]])
def test_what_makes_no_sense_is_refused(home: Home, arguments: list[str]) -> None:
    """Lost: a word about a mistake, or the file to it."""
    done = home.ctl("context", *arguments)
    assert done.returncode == 2 and done.stderr.startswith("daggyctl: ") and not home.file.exists()


def test_the_folder_of_configuration_is_minded(home: Home) -> None:
    """Lost: the place where a user keeps such files."""
    other = open_folder()
    home.good("context", "set", "a", "-H", "x", XDG_CONFIG_HOME=str(other))
    assert (other / "daggyr/ctl.json").exists() and not home.file.exists()


def test_the_contexts_of_another_user_are_not_there(home: Home, runner: Runner) -> None:
    """Lost: every command after a change of user that leaves HOME as it was."""
    home.good("context", "set", "here", "--host", NOBODY)
    home.good("context", "use", "here")
    home.folder.chmod(0o755)
    (home.folder / ".config").chmod(0o700)
    command = ["setpriv", "--reuid=nobody", "--clear-groups", "daggyctl", "run", "echo", "x"]
    done = subprocess.run(
        command, env=environment(runner, HOME=str(home.folder), XDG_CONFIG_HOME=""), text=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60 * SLOWNESS, check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", ""), done
