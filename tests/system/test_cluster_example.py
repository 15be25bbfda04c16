# SPDX-License-Identifier: LGPL-2.1-or-later
"""The example of docs/cluster.md, "Three hosts", run as it stands there.

Each host is a bed within the bed (tests/bed/boot): its own systemd, file system and network, with its own address on
a bridge. So units, paths and addresses are those of the document. What is different is in SUBSTITUTIONS, and what an
administrator has before the first command is in make_server(), make_standby() and the fixture hosts.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bedlib import SLOWNESS, await_that, run
from postgreslib import programs
from test_tls import Authority

pytestmark = pytest.mark.serial  # there is one bridge, and one host of each address

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = PROJECT / "docs/cluster.md"
BRIDGE = "example"
"""Of the bed that all of this is in."""

PASSWORD = "it's the database's"
TOKEN = "a" * 40

POSTGRES_VERSION = programs().parent.name
SERVER_UNITS = f"postgresql.service postgresql@{POSTGRES_VERSION}-main.service"

SUBSTITUTIONS = [
    # A bed has been given the programs before; what an upgrade's restart does is what it is tested for.
    ("apt install ./daggyd_*.deb ./daggyctl_*.deb\n", ""),
    ("apt install ./daggyd_*.deb      # restarts it\n", "systemctl restart daggyd\n"),
    # The release of Debian that this is.
    ("/etc/postgresql/15/main/", f"/etc/postgresql/{POSTGRES_VERSION}/main/"),
]

MEMBERS = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}
PRIMARY, STANDBY, RUNNER = "10.0.0.11", "10.0.0.12", "10.0.0.21"


def blocks(title: str) -> list[str]:
    """The code under a title: what is fenced, and what is indented."""
    section = DOCUMENT.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = re.findall(r"^```\w+\n(.*?)^```$|((?:^    [^\n]+\n)+)", section, re.M | re.S)
    return [fenced or re.sub(r"^    ", "", indented, flags=re.M) for fenced, indented in found]


(SERVER, DATABASE, SYNCHRONOUS, INSTALL, CONFIG, START, JOIN, RUN, BALANCER) = blocks("Three hosts")
(UPGRADE,) = blocks("Upgrades")


class Host:
    """A bed within this bed, at an address of its own. Its administrator's commands run in /root."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        # It ends when its stdin does, so with this process at the latest.
        self._launcher = subprocess.Popen(
            [PROJECT / "tests/bed/boot", "--", "sh", "-c", "echo up; exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def await_up(self) -> Host:
        assert self._launcher.stdout
        printed = ""
        while not printed.endswith("up\n"):  # before that, what is the matter with it
            line = self._launcher.stdout.readline()
            assert line, f"no bed for {self.name}: {printed}"
            printed += line
        launched = run("pgrep", "--parent", str(self._launcher.pid), "--exact", "unshare").strip()
        self._pid1 = run("pgrep", "--parent", launched).strip()
        link = f"host-{self.name}"
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self._pid1)
        run("ip", "link", "set", link, "master", BRIDGE, "up")
        self.sh(f"hostname {self.name}; ip address add {self.address}/24 dev eth0; ip link set eth0 up")
        self.write("token", TOKEN + "\n")
        return self

    def discard(self) -> None:
        assert self._launcher.stdin and self._launcher.stdout
        self._launcher.stdin.close()
        self._launcher.wait(timeout=60 * SLOWNESS)
        self._launcher.stdout.close()

    def begin(self, script: str, input: str = "") -> subprocess.Popen[str]:
        """Begins to run it, without a terminal."""
        namespaces = ["--root", "--wd=/", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        clean = ["env", "--ignore-environment", "--chdir=/root", "HOME=/root", "LANG=C.UTF-8"]
        clean += ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        process = subprocess.Popen(
            ["nsenter", "--target", self._pid1, *namespaces, "--", *clean, "sh", "-euc", script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdin
        process.stdin.write(input)
        process.stdin.close()
        process.stdin = None
        return process

    def end(self, process: subprocess.Popen[str], may_fail: bool = False) -> str:
        """What it has printed, when it ends."""
        printed, _ = process.communicate(timeout=60 * SLOWNESS)
        assert may_fail or process.returncode == 0, f"{self.name}: {process.args}: {printed}\n{self.journal()}"
        return printed

    def sh(self, script: str, input: str = "", may_fail: bool = False) -> str:
        return self.end(self.begin(script, input), may_fail)

    def begin_block(self, block: str, input: str = "") -> subprocess.Popen[str]:
        """Begins to run commands of the document."""
        for old, new in SUBSTITUTIONS:
            block = block.replace(old, new)
        return self.begin(block, input)

    def do(self, block: str, input: str = "") -> str:
        return self.end(self.begin_block(block, input))

    def write(self, path: str, text: str) -> None:
        self.sh(f"cat >{path}", text)

    def journal(self) -> str:
        return self.sh("journalctl --quiet --no-pager --lines=60", may_fail=True)

    def members(self) -> list[dict[str, Any]]:
        """As the daggyd here sees them; none, if there is no answer."""
        printed = self.sh("daggyctl -q -j --token-file=token members 2>/dev/null", may_fail=True)
        return json.loads(printed) if printed.strip() else []

    def leads(self) -> bool:
        return any(member["self"] and member["leading"] for member in self.members())

    def task(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.sh(f"daggyctl -q -j --token-file=token show {id}"))
        return found


def make_server(host: Host) -> None:
    """PostgreSQL as Debian's package makes it when it is installed."""
    host.sh(
        "rm -rf /etc/postgresql/* /var/lib/postgresql/*\n"
        f"pg_createcluster --port=5432 --locale=C.UTF-8 {POSTGRES_VERSION} main -- --no-sync\n"
        f"systemctl start {SERVER_UNITS}"
    )


def make_standby(host: Host, primary: Host) -> None:
    """What the document leaves to PostgreSQL's: a copy of the primary that follows it, with the same settings."""
    trusted = f"host replication postgres {host.address}/32 trust"
    settings = primary.sh(
        f"echo '{trusted}' >>/etc/postgresql/{POSTGRES_VERSION}/main/pg_hba.conf\n"
        "systemctl reload postgresql\n"
        "tar --create --directory=/etc postgresql | base64"
    )
    host.sh(
        "rm -rf /etc/postgresql/* /var/lib/postgresql/*\n"
        "base64 --decode | tar --extract --directory=/etc\n"
        f"runuser -u postgres -- pg_basebackup --no-sync --checkpoint=fast --write-recovery-conf"
        f" --host={primary.address} --pgdata=/var/lib/postgresql/{POSTGRES_VERSION}/main\n"
        f"systemctl start {SERVER_UNITS}",
        input=settings,
    )
    what = "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'"
    await_that(lambda: sql(primary, what) == "quorum", 30, "the standby to follow")


def sql(host: Host, query: str) -> str:
    return host.sh(f'cd /; runuser -u postgres -- psql -XAtq -c "{query}"').strip()


def may_mount_beds() -> bool:
    """An overlay may have one other below it, so a bed can be made here unless this machine's root is one."""
    folder = Path("/run/example-overlay")
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True)
    options = f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work"
    try:
        return not subprocess.run(["mount", "-t", "overlay", "-o", options, "bed", folder / "root"]).returncode
    finally:
        subprocess.run(["umount", "--quiet", folder / "root"])
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Host]]:
    """All of them, with what was there before: the files that the commands name, and a server as it is installed."""
    if not may_mount_beds():
        pytest.skip("this machine's root is an overlay, so a bed has no room for another one")
    authority = Authority("of the database")
    cert, key = authority.give("server", subjects=f"IP:{PRIMARY},IP:{STANDBY}")
    addresses = MEMBERS | {"primary": PRIMARY, "standby": STANDBY, "runner": RUNNER}
    with ExitStack() as stack:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        stack.callback(run, "ip", "link", "delete", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        found = {}
        for name, address in addresses.items():
            found[name] = Host(name, address)
            stack.callback(found[name].discard)
        for host in found.values():
            host.await_up()
        for name in MEMBERS:
            found[name].write("password", PASSWORD + "\n")
            found[name].write("db-ca.pem", authority.cert.read_text())
        found["primary"].write("server.pem", cert.read_text())
        found["primary"].write("server.key", key.read_text())
        make_server(found["primary"])
        yield found


@pytest.fixture(scope="module")
def members(hosts: dict[str, Host]) -> list[Host]:
    """The section up to the end of what is done on the three."""
    primary = hosts["primary"]
    primary.do(SERVER)
    primary.do(DATABASE, input=f"{PASSWORD}\n{PASSWORD}\n")
    primary.do(SYNCHRONOUS)
    make_standby(hosts["standby"], primary)
    for name, address in MEMBERS.items():
        member = hosts[name]
        member.do(INSTALL)
        assert CONFIG.count(MEMBERS["a"] + ":") == 1
        member.write("/etc/daggyr/daggyd.json", CONFIG.replace(MEMBERS["a"] + ":", address + ":"))
        printed = member.do(START)
        assert "0 workers\n" in printed, printed
    found = [hosts[name] for name in MEMBERS]
    await_members(found)
    return found


@pytest.fixture(scope="module")
def runner(hosts: dict[str, Host], members: list[Host]) -> Host:
    joined = hosts["runner"].do(JOIN)
    assert "Joined" in joined, joined
    return hosts["runner"]


def await_members(members: Sequence[Host], seconds: float = 30) -> None:
    """Returns when each takes each for living, and the same one for the leader."""
    addresses = {f"{member.address}:2503" for member in members}

    def know_each_other() -> bool:
        leaders = set()
        for member in members:
            living = [it for it in member.members() if it["state"] == "alive"]
            if {it["address"] for it in living} != addresses or len(living) != len(addresses):
                return False
            leaders |= {it["address"] for it in living if it["leading"]}
        return len(leaders) == 1

    await_that(know_each_other, seconds, "the members to know each other")


def leader_first(members: Sequence[Host]) -> list[Host]:
    return sorted(members, key=lambda member: not member.leads())


def columns(line: str) -> list[str]:
    return re.split(r"  +", line.strip())


def test_three_hosts(hosts: dict[str, Host], members: list[Host], runner: Host) -> None:
    """Lost: an evening for everybody who begins as the document says."""
    assert hosts["a"].do(RUN) == "runner\n"
    sessions = "FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE usename = 'daggyd'"
    assert sql(hosts["primary"], f"SELECT count(DISTINCT client_addr), bool_and(ssl) {sessions}") == "3|t"
    assert "synchronous_standby_names" not in "".join(member.journal() for member in members)


def test_the_list_of_members_looks_as_printed(members: list[Host]) -> None:
    """Lost: what the document explains by it."""
    shown = next(block for block in blocks("How it works") if "ADDRESS" in block).splitlines()
    lines = members[1].sh("daggyctl -q --token-file=token members").splitlines()
    assert columns(lines[0]) == columns(shown[0])
    assert len(lines) == len(shown)
    forms = [re.sub(r"\d+", "N", cell) for cell in columns(shown[2])]
    leading = next(columns(line) for line in lines if " leading " in line)
    assert [re.sub(r"\d+", "N", cell) for cell in leading][:-1] == forms[:-1]
    own = next(columns(line) for line in lines if line.startswith("10.0.0.2:2503 "))
    assert own[1] == "alive" and own[2] in ("self", "leading")
    *_, asked, killed = leader_first(members)
    killed.sh("systemctl kill --kill-whom=main --signal=KILL daggyd")

    def rows() -> list[list[str]]:
        lines = asked.sh("daggyctl -q --token-file=token members").splitlines()
        return sorted(columns(line)[:4] for line in lines if line.startswith(f"{killed.address}:"))

    gone = columns(shown[3])[1:4]
    expected = [[f"{killed.address}:2503", *values] for values in (["alive", "-", "0"], gone)]
    await_that(lambda: rows() == expected, 30, "the one before to be gone")
    await_members(members)


def submit(member: Host, id: str, script: str, *options: str) -> None:
    member.sh(f"daggyctl -q --token-file=token submit --id={id} {' '.join(options)} -- sh -c '{script}'")


def test_an_upgrade_of_one_member_after_the_other(members: list[Host], runner: Host) -> None:
    """Lost: tasks, or the service to those who ask the other members, in each upgrade."""
    asked, waits = members[0], "until test -e /tmp/go; do sleep 0.1; done"
    scripts = {"done": "echo x >>/tmp/done", "failed": "echo x >>/tmp/failed; exit 3"}
    scripts |= {"runs": f"{waits}; echo x >>/tmp/runs", "waits": "echo x >>/tmp/waits"}
    submit(asked, "done", scripts["done"])
    submit(asked, "failed", scripts["failed"])
    submit(asked, "runs", scripts["runs"])
    submit(asked, "waits", scripts["waits"], "--after=runs")
    expected = {"done": "completed", "failed": "errored", "runs": "running", "waits": "queued"}

    def states(member: Host) -> dict[str, str]:
        return {id: member.task(id)["state"] for id in expected}

    await_that(lambda: states(asked) == expected, 30, "a task in each state")
    for member in reversed(leader_first(members)):
        other = next(it for it in members if it is not member)
        upgrade = member.begin_block(UPGRADE)
        submit(other, f"during-{member.name}", f"echo x >>/tmp/during-{member.name}")
        member.end(upgrade)
        await_members(members)
        assert all(states(it) == expected for it in members)
    runner.sh("touch /tmp/go")
    ended = {"done": "completed", "failed": "errored", "runs": "completed", "waits": "completed"}
    ended |= {f"during-{member.name}": "completed" for member in members}
    asked.sh(f"daggyctl -q --token-file=token wait --timeout 30 {' '.join(ended)}", may_fail=True)
    for id, state in ended.items():
        task = asked.task(id)
        assert (task["state"], task.get("attempts", [])) == (state, []), task
        assert runner.sh(f"cat /tmp/{id}") == "x\n", "it ran once"


def test_the_standby_takes_over(hosts: dict[str, Host], members: list[Host], runner: Host) -> None:
    """Lost: what the second host in "conninfo" is for."""
    submit(members[0], "before", "true")
    hosts["primary"].discard()
    standby = hosts["standby"]
    sql(standby, "ALTER SYSTEM RESET synchronous_standby_names")
    assert sql(standby, "SELECT pg_reload_conf(), pg_promote()") == "t|t"
    await_members(members, 60)
    members[2].sh("daggyctl -q --token-file=token wait --timeout 30 before")
    assert hosts["a"].do(RUN) == "runner\n"


def test_every_block_but_the_balancers_is_run() -> None:
    """Lost: a command of the example that nobody has tried, but for HAProxy's part: that is another program's."""
    assert BALANCER.startswith("backend daggyd\n")
    printed = "".join(blocks("Three hosts") + blocks("Upgrades"))
    assert all(old in printed for old, _ in SUBSTITUTIONS)
