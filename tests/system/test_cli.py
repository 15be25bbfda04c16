# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line and the configuration file."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from bedlib import RELOADED, SLOWNESS, ShellRunner, await_that, journal_of, open_folder, run, unit_property

DAGGYR = "/usr/bin/daggyr"


def daggyr(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a daggyr that must end by itself."""
    return subprocess.run(
        [DAGGYR, *arguments], text=True, capture_output=True, timeout=20 * SLOWNESS, **options
    )


def config_file(content: str | dict[str, Any]) -> str:
    path = open_folder() / "daggyr.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_option(option: str) -> None:
    """Lost: the first thing that anybody types."""
    done = daggyr(option)
    assert (done.returncode, done.stderr) == (0, "")
    options = ("--config", "--daemonize", "--user", "--system", "--check", "--version", "--help")
    for name in (*options, "-c", "-d", "-V", "-h"):
        assert name in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_one_line(option: str) -> None:
    """Lost: bug reports, and scripts that compare versions."""
    done = daggyr(option)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"daggyr \d+(\.\d+)*\S*\n", done.stdout)


@pytest.mark.parametrize("arguments", [["--no-such"], ["-x"], ["argument"], ["--config"]])
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    """Lost: a typo would start a daemon with other settings than meant."""
    done = daggyr(*arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert arguments[0].lstrip("-") in done.stderr


def test_check_prints_the_capacity() -> None:
    """Lost: trying a configuration before it is put to work."""
    path = config_file({"capacity_overrides": {"cores": 10, "memory_mb": 100, "gpu": 2}})
    done = daggyr("--check", "--config", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"cores": 10, "memory_mb": 100, "gpu": 2}
    found = json.loads(daggyr("--check").stdout)
    assert set(found) == {"cores", "memory_mb"}
    assert found["cores"] >= 1 and found["memory_mb"] >= 100


BAD_CONFIGS = {
    "unknown": ('{"prot": 1}', "prot"),
    "type": ('{"port": "2504"}', "port"),
    "range": ('{"port": 65536}', "port"),
    "negative": ('{"queue_max": -1}', "queue_max"),
    "fraction": ('{"queue_max": 1.5}', "queue_max"),
    "address": ('{"ip": "example.com"}', "ip"),
    "below": ('{"capacity_overrides": {"cores": -1}}', "capacity_overrides/cores"),
    "memory": ('{"default_resources": {"memory_mb": 0}}', "default_resources/memory_mb"),
    "list": ('{"allowed_users": "root"}', "allowed_users"),
    "boolean": ('{"journal": 1}', "journal"),
    "required": ('{"tls": {"cert": "/x"}}', "tls"),
    "threads": ('{"web-threads": 0}', "web-threads"),
    "public": ('{"ip": "0.0.0.0"}', "ip"),
    "public-6": ('{"ip": "::"}', "ip"),
    "user": ('{"task_user": "no-such-user"}', "task_user"),
    "root": ('{"task_user": "root"}', "task_user"),
    "twice": ('{"port": 1, "port": 2}', "twice"),
    "cut": ('{"port": 1', "JSON"),
    "array": ("[]", "object"),
}


@pytest.mark.parametrize(("content", "named"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
@pytest.mark.parametrize("option", [None, "--check", "--daemonize"])
def test_a_bad_configuration_stops_the_start_with_one_line(
    content: str, named: str, option: str | None
) -> None:
    """Lost: a daemon that runs with other settings than written down, or an error nobody can read."""
    path = config_file(content)
    done = daggyr(*([option] if option else []), "--config", path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert path in done.stderr
    assert named in done.stderr


def test_a_configuration_that_is_not_there_stops_the_start() -> None:
    """Lost: a daemon with default settings where a file was named."""
    for path in ("/no/such.json", "/etc"):
        done = daggyr("--config", path)
        assert (done.returncode != 0, done.stderr.count("\n")) == (True, 1)
        assert path in done.stderr


@contextmanager
def default_config(program: str, content: str) -> Iterator[Path]:
    path = Path(f"/etc/daggyr/{program}.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    try:
        yield path
    finally:
        path.unlink()


@pytest.mark.serial
@pytest.mark.parametrize("program", ["daggyr", "daggyd"])
def test_a_service_starts_without_a_configuration(program: str) -> None:
    """Lost: a fresh installation, whose first start would fail five times and take the socket along."""
    assert not Path(f"/etc/daggyr/{program}.json").exists()
    unit = f"{program}.service"
    try:
        run("systemctl", "start", unit)
        assert unit_property(unit, "ActiveState") == "active"
        with default_config(program, '{"prot": 1}') as path:
            done = subprocess.run(["systemctl", "reload", unit], text=True, capture_output=True)
            assert unit_property(unit, "ActiveState") == "active", done.stderr
            await_that(lambda: f"{path}: /prot" in journal_of(unit), what="a word on the bad file")
        seen = journal_of(unit).count(RELOADED)
        run("systemctl", "reload", unit)
        await_that(lambda: journal_of(unit).count(RELOADED) > seen, what="the defaults again")
    finally:
        run("systemctl", "stop", f"{program}.socket", unit, check=False, stderr=subprocess.DEVNULL)


@pytest.mark.serial
def test_the_default_configuration_is_read_where_no_other_is_named() -> None:
    """Lost: the limits that somebody wrote down, in a daemon started by hand; or a user's, to the system's file."""
    with default_config("daggyr", '{"capacity_overrides": {"gpu": 2}}'), default_config("daggyd", "[]") as bad:
        assert json.loads(daggyr("--check").stdout)["gpu"] == 2
        assert "gpu" not in daggyr("--check", "--user").stdout
        assert "gpu" not in daggyr("--check", "--config", config_file("{}")).stdout
        done = subprocess.run(["/usr/bin/daggyd", "--check"], text=True, capture_output=True)
        assert (done.returncode != 0, done.stderr.count("\n")) == (True, 1)
        assert str(bad) in done.stderr


@pytest.mark.parametrize("content", ["", "{}"])
def test_every_key_is_optional(content: str) -> None:
    """Lost: the shortest configuration."""
    done = daggyr("--check", "--config", config_file(content))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_addresses_need_no_more(ip: str) -> None:
    """Lost: the default, and its equals."""
    assert daggyr("--check", "--config", config_file({"ip": ip})).returncode == 0


def test_a_public_address_can_be_insisted_on() -> None:
    """Lost: closed networks where everybody may run tasks."""
    assert daggyr("--check", "--config", config_file({"ip": "0.0.0.0", "insecure": True})).returncode == 0
    with ShellRunner({"ip": "0.0.0.0", "insecure": True}) as runner:
        port = runner.config["port"]
        assert requests.get(f"http://192.0.2.1:{port}/ready", timeout=20 * SLOWNESS).status_code == 200


def test_port_0_is_any_free_port_and_it_says_which() -> None:
    """Lost: several runners on one machine without a list of ports."""
    with subprocess.Popen(
        [DAGGYR, "--config", config_file({"port": 0})], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        try:
            line = process.stderr.readline()
            found = re.search(r"127\.0\.0\.1 port (\d+)", line)
            assert found, line
            url = f"http://127.0.0.1:{found[1]}/ready"
            await_that(lambda: requests.get(url, timeout=20 * SLOWNESS).status_code == 200, what="it to be ready")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20 * SLOWNESS) == 0


def test_daemonize_returns_when_it_is_listening() -> None:
    """Lost: scripts that start daggyr and use it in the next line."""
    for _ in range(3):
        with ShellRunner(daemonize=True) as runner:
            assert runner.get("/ready").status_code == 200
            stat = Path(f"/proc/{runner.main_pid}/stat").read_text().rsplit(")", 1)[1].split()
            assert stat[3] != str(_session()), "it is in our session"
            assert Path(f"/proc/{runner.main_pid}/cwd").resolve() == Path("/")
            links = [Path(f"/proc/{runner.main_pid}/fd/{fd}").resolve() for fd in (0, 1, 2)]
            assert links == [Path("/dev/null")] * 3


def _session() -> int:
    return int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[3])


@pytest.mark.parametrize("options", [[], ["-d"]], ids=["foreground", "daemonized"])
def test_a_port_in_use_stops_the_start_with_one_line(options: list[str]) -> None:
    """Lost: a second daggyr would seem to run, and "-d" claim that all is well."""
    with ShellRunner() as first:
        path = config_file({"port": first.config["port"]})
        done = daggyr(*options, "--config", path)
        assert done.returncode != 0
        assert done.stderr.count("\n") == 1
        assert str(first.config["port"]) in done.stderr
        assert first.get("/ready").status_code == 200


@pytest.mark.serial
def test_an_idle_daemon_does_not_wake_up_all_the_time() -> None:
    """Lost: batteries, and the other guests of a virtual machine."""
    with ShellRunner() as runner:

        def wakeups() -> int:
            lines = Path(f"/proc/{runner.main_pid}/status").read_text().splitlines()
            return sum(int(line.split()[1]) for line in lines if "_ctxt_switches" in line)

        runner.http.close()
        start, before = time.monotonic(), wakeups()
        await_that(lambda: time.monotonic() > start + 3, what="three seconds to pass")
        assert wakeups() - before < 30
