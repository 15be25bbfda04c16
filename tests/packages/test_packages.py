# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages, from their installation to their purge, on a system that has never seen them.

They run in the order in which they stand here, as root in a bed with nothing of the project installed
(./dev boot --release SUITE --bare); DAGGYR_PACKAGES is the folder of the packages.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PACKAGES = Path(os.environ["DAGGYR_PACKAGES"])
NAMES = ("daggyr", "daggyd", "daggyctl")
ACCOUNTS = ("daggyr", "daggyr-task")
UPGRADED = "9:0"


def run(*command: str, check: bool = True) -> str:
    """Runs a command to its end and returns all that it said."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_PAGER": ""}
    done = subprocess.run(
        command, text=True, env=environment, timeout=240, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def await_that(predicate: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for: {what}"
        time.sleep(0.05)


def unit_property(unit: str, name: str) -> str:
    return run("systemctl", "show", "--value", "--property", name, unit).strip()


def daggyctl(*arguments: str) -> str:
    """What it writes to stdout, when it succeeds."""
    done = subprocess.run(["daggyctl", *arguments], text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stderr}"
    return done.stdout.strip()


def queue(*arguments: str) -> str:
    """The same of the queue, which has the runner for itself once it is there."""
    return daggyctl("--queue", *arguments)


def start_task(*command: str) -> str:
    """The id of a task of the queue's that runs."""
    id = queue("submit", "--", *command)
    await_that(lambda: json.loads(queue("--json", "show", id))["state"] == "running", 60, "the start")
    return id


def main_pid(name: str) -> str:
    return unit_property(f"{name}.service", "MainPID")


def package(name: str) -> Path:
    (found,) = PACKAGES.glob(f"{name}_*.deb")
    return found


def install(*files: Path) -> str:
    return run("apt-get", "install", "--yes", "--no-install-recommends", *map(str, files))


def remove(*arguments: str) -> str:
    return run("apt-get", "remove", "--yes", *arguments)


def newer(name: str, folder: Path) -> Path:
    """The same package with a higher version."""
    tree = folder / name
    run("dpkg-deb", "--raw-extract", str(package(name)), str(tree))
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {UPGRADED}", control.read_text()))
    run("dpkg-deb", "--build", "--root-owner-group", str(tree), str(folder))
    (built,) = folder.glob(f"{name}_*.deb")
    return built


def ours_on_disk() -> set[str]:
    """All files of this system whose names are ours."""
    found = run("find", "/", "-xdev", "(", "-path", "/run", "-o", "-path", "/tmp", ")", "-prune", "-o",
                "-regex", r".*/[^/]*\(daggyr\|daggyd\|daggyctl\)[^/]*", "-print")  # fmt: skip
    return set(found.split()) | {str(path) for path in Path("/run").glob("**/*dagg[y]*")}


def units_of_ours() -> list[str]:
    listed = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "daggy*")
    listed += run("systemctl", "list-unit-files", "--no-legend", "daggy*", check=False)
    return listed.splitlines()


def accounts_of_ours() -> list[str]:
    return [entry.pw_name for entry in pwd.getpwall() if entry.pw_name.startswith("dagg")]


@pytest.fixture(scope="module")
def before() -> set[str]:
    """What has our names without us: the bed's, and the project's folder."""
    assert accounts_of_ours() == []
    return ours_on_disk()


def test_an_installation_starts_nothing_and_one_command_makes_it_run(before: set[str]) -> None:
    """Lost: a host whose users can run commands unasked; or the administrator's patience."""
    install(package("daggyr"), package("daggyctl"))
    assert {name for name in ACCOUNTS if pwd.getpwnam(name)} == set(ACCOUNTS)
    for unit in ("daggyr.socket", "daggyr.service"):
        assert unit_property(unit, "ActiveState") == "inactive"
    assert "enabled" not in run("systemctl", "is-enabled", "daggyr.socket", check=False)
    assert "enabled" not in run("systemctl", "--global", "is-enabled", "daggyr.socket", check=False)
    run("systemctl", "enable", "--now", "daggyr.socket")
    assert daggyctl("run", "--", "id", "--user", "--name") == "daggyr-task"


def test_what_was_installed_is_as_it_was_packed() -> None:
    """Lost: trust in dpkg --verify, to a file that something of ours rewrites."""
    # The trees of the beds leave out what only people read.
    changed = [line for line in run("dpkg", "--verify", "daggyr", "daggyctl").splitlines()
               if not re.search(" /usr/share/(doc|man)(/|$)", line)]  # fmt: skip
    assert changed == []
    assert "daggyr" in run("journalctl", "--list-catalog", "f1c6f0a3a5a84c41a5d3c4e8a6fb0e11")


def test_the_queue_comes_beside_it() -> None:
    """Lost: the second package, and what Debian's own test of the three is worth."""
    install(package("daggyd"))
    assert unit_property("daggyd.service", "ActiveState") == "inactive"
    run("sh", "packaging/debian/tests/smoke")  # which configures the queue, too
    run("systemctl", "enable", "--now", "daggyd.service")
    assert queue("run", "--", "echo", "queued") == "queued"


def test_an_upgrade_ends_no_task_and_runs_the_new_program(tmp_path: Path) -> None:
    """Lost: all tasks of a host, whenever its packages are updated."""
    id = start_task("sh", "-c", "sleep 30; echo through")
    runner, before = main_pid("daggyr"), main_pid("daggyd")
    said = run("dpkg", "--install", *(str(newer(name, tmp_path)) for name in NAMES))
    assert "systemctl restart daggyr.service" not in said
    assert main_pid("daggyr") == runner != "0"
    assert os.readlink(f"/proc/{runner}/exe") == "/usr/bin/daggyr"
    assert main_pid("daggyd") not in ("0", before)
    for unit in ("daggyr.socket", "daggyr.service", "daggyd.service"):
        assert unit_property(unit, "NeedDaemonReload") == "no"
    assert queue("run", "--", "echo", "by the new one") == "by the new one"
    queue("wait", id)
    shown = json.loads(queue("--json", "show", id))
    assert (shown["result"], shown["output"]) == ("success", "through\n")
    assert main_pid("daggyr") == runner


def test_needrestart_leaves_it_alone() -> None:
    """Lost: all tasks of a host, whenever a library is updated."""
    runner, before = main_pid("daggyr"), main_pid("daggyd")
    (library,) = {
        line.split()[5] for line in Path(f"/proc/{runner}/maps").read_text().splitlines() if "libjson-c" in line
    }
    shutil.copy2(library, f"{library}.new")
    os.rename(f"{library}.new", library)
    said = run("needrestart", "-v", "-r", "a", "-l")
    assert "daggyd.service" in said, "needrestart sees nothing here, so this test shows nothing"
    assert main_pid("daggyr") == runner, said
    assert main_pid("daggyd") != before, said


def test_a_removal_keeps_what_a_later_installation_goes_on_with() -> None:
    """Lost: the configuration, and the queue's tasks."""
    id = start_task("sleep", "infinity")
    remove(*NAMES)
    assert unit_property("daggyr.service", "ActiveState") == "inactive"
    assert not Path("/usr/bin/daggyr").exists()
    assert Path("/etc/daggyr/daggyd.json").exists()
    install(*(package(name) for name in NAMES))
    # The queue still has it, and runs it again: it was lost, and may be.
    await_that(lambda: json.loads(queue("--json", "show", id)).get("attempts"), 60, "the second attempt")
    queue("stop", "--wait", id)
    assert queue("run", "--", "echo", "again") == "again"


def test_a_purge_leaves_nothing(before: set[str]) -> None:
    """Lost: files that belong to nobody, accounts that nobody uses, units without programs."""
    Path("/etc/daggyr/daggyr.json").write_text("{}\n")
    remove("--purge", *NAMES)
    assert sorted(ours_on_disk() - before) == []
    assert units_of_ours() == []
    assert accounts_of_ours() == []
    assert "daggy" not in Path("/etc/group").read_text()


def test_an_account_that_owns_files_stays(before: set[str]) -> None:
    """Lost: what a task has left, to the next account that gets its number."""
    install(package("daggyr"), package("daggyctl"))
    run("systemctl", "enable", "--now", "daggyr.socket")
    kept = Path(tempfile.mkdtemp(dir="/srv"))
    kept.chmod(0o777)
    daggyctl("run", "--", "touch", f"{kept}/kept")
    said = remove("--purge", "daggyr", "daggyctl")
    assert f"{kept}/kept" in said
    assert accounts_of_ours() == ["daggyr-task"]
    assert sorted(ours_on_disk() - before) == []
