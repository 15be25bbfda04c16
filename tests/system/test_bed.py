# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bed itself: is it a system that the tests of daggyr can be built on?"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from bedlib import (
    IN_VM,
    await_that,
    cgroup_folder,
    cgroup_procs,
    journal_of,
    run,
    task_id,
    unit_exists,
    unit_property,
)

pytestmark = pytest.mark.kernel


@pytest.fixture
def sleeping_scope() -> Generator[str, None, None]:
    """A scope with half a CPU and 64 MB."""
    unit = f"{task_id('bed')}.scope"
    limits = ["CPUQuota=50%", "MemoryMax=64M", "MemorySwapMax=0", "TasksMax=9"]
    sleeper = subprocess.Popen(
        ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={unit}"]
        + [f"--property={limit}" for limit in limits]
        + ["sleep", "infinity"]
    )
    await_that(lambda: unit_property(unit, "ActiveState") == "active", what=f"start of {unit}")
    yield unit
    sleeper.kill()
    sleeper.wait()
    await_that(lambda: not unit_exists(unit), what=f"end of {unit}")


def test_the_system_is_up_and_we_are_inside_it() -> None:
    # Other tests have daemons that fail: that is theirs. What nothing here needs may have failed at boot.
    known = os.environ.get("DAGGYR_BED_FAILED", "").split()
    state = run("systemctl", "is-system-running", check=False).strip()
    failed = run("systemctl", "list-units", "--failed", "--plain", "--no-legend").splitlines()
    assert state in ("running", "degraded")
    assert not [line for line in failed if not line.startswith(("daggyr-", "daggyd-")) and line.split()[0] not in known]
    assert Path("/proc/1/comm").read_text().strip() == "systemd"
    assert os.getpid() in cgroup_procs("bed-command.scope")


def test_limits_of_a_scope_reach_the_kernel(sleeping_scope: str) -> None:
    cpu, memory = cgroup_folder(sleeping_scope, "cpu"), cgroup_folder(sleeping_scope, "memory")
    assert cpu and memory
    if (cpu / "cpu.max").exists():
        quota, period = map(int, (cpu / "cpu.max").read_text().split())
        limit = int((memory / "memory.max").read_text())
    else:
        quota = int((cpu / "cpu.cfs_quota_us").read_text())
        period = int((cpu / "cpu.cfs_period_us").read_text())
        limit = int((memory / "memory.limit_in_bytes").read_text())
    assert quota / period == 0.5
    assert limit == 64 << 20
    assert len(cgroup_procs(sleeping_scope)) == 1


def test_the_journal_knows_a_unit_by_its_output() -> None:
    unit = f"{task_id('bed')}.service"
    run("systemd-run", "--wait", "--quiet", "--collect", f"--unit={unit}", "echo", "heard")
    assert "heard" in journal_of(unit, output="cat").splitlines()


def test_polkit_tells_root_from_others() -> None:
    question = ["pkcheck", "--action-id", "org.freedesktop.systemd1.manage-units", "--process"]
    assert subprocess.run([*question, str(os.getpid())]).returncode == 0
    with subprocess.Popen(["setpriv", "--reuid=nobody", "--clear-groups", "sleep", "60"]) as nobody:
        await_that(lambda: Path(f"/proc/{nobody.pid}/comm").read_text() == "sleep\n")
        assert subprocess.run([*question, str(nobody.pid)], stderr=subprocess.DEVNULL).returncode
        nobody.kill()


def test_names_resolve_without_a_network() -> None:
    flags = socket.AI_ADDRCONFIG
    assert socket.getaddrinfo("localhost", 80, socket.AF_INET, flags=flags)
    assert socket.getaddrinfo(socket.gethostname(), 80, flags=flags)[0][4][0] == "192.0.2.1"
    assert {name for _, name in socket.if_nameindex()} == {"lo"}


@pytest.mark.serial  # others mount disks of their own
def test_nothing_of_the_host_is_within_reach() -> None:
    project = str(Path(__file__).parents[2])
    real = run("findmnt", "--real", "--noheadings", "--list", "--output", "TARGET").split()
    assert not [path for path in real if path != "/" and not path.startswith(project)]
    if IN_VM:
        return  # its kernel is its own
    with pytest.raises(OSError, match="Read-only"):
        Path("/proc/sys/kernel/domainname").write_text("bed")
