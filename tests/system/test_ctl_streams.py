# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyctl with the descriptors, arguments and moments that scripts give it."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from collections.abc import Callable

import pytest

from bedlib import ROOMY, SLOWNESS, Runner, await_that, open_folder, task_id

Done = subprocess.CompletedProcess


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    return start_runner(ROOMY)


def shell(runner: Runner, script: str, **options: object) -> Done[bytes]:
    """Runs a script in which daggyctl speaks to the runner."""
    return subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"DAGGYCTL_HOST": runner.url, "DAGGYCTL_TOKEN_FILE": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=60 * SLOWNESS,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("verb", ["list", "-j list", "show {id}", "capacity", "lease", "wait {id}", "--help"])
def test_what_cannot_be_printed_is_said(runner: Runner, verb: str) -> None:
    """Lost: why there is nothing in the file, whose disk is full."""
    id = runner.run(["true"])["task_id"]
    done = shell(runner, f"timeout 20 daggyctl {verb.format(id=id)} >/dev/full")
    assert done.returncode == 125
    assert b"No space left on device" in done.stderr, done


def test_watching_ends_when_nothing_can_be_told(runner: Runner) -> None:
    """Lost: a process that connects again and again for the sake of a full disk."""
    submit = "(for i in $(seq 100); do daggyctl submit true || exit; done) >/dev/null"
    done = shell(runner, f"{submit} & timeout 20 daggyctl events >/dev/full; status=$?; kill $!; exit $status")
    assert done.returncode == 125, done


def test_a_task_that_was_submitted_is_named_in_any_case(runner: Runner) -> None:
    """Lost: the id of a task that runs, so that nobody can find it again."""
    for option in ("", "-j"):
        id = task_id()
        done = shell(runner, f"daggyctl {option} submit --id {id} true >/dev/full")
        assert done.returncode == 125
        assert f"{id} is submitted".encode() in done.stderr
        runner.wait(id)
        batch = f'[{{"task_id": "{id}-1", "command": ["true"]}}]'
        done = shell(runner, f"daggyctl {option} submit --file - >/dev/full", input=batch.encode())
        assert f"{id}-1 is submitted".encode() in done.stderr and done.returncode == 125


def test_standard_input_goes_on_where_it_is(runner: Runner) -> None:
    """Lost: the rest of a file that the script has read the beginning of, and input from sockets."""
    folder = open_folder()
    (folder / "lines").write_text("one\ntwo\n")
    done = shell(runner, f"exec <{folder}/lines; read; daggyctl run -i - cat")
    assert (done.stdout, done.returncode) == (b"two\n", 0), done
    ours, its = socket.socketpair()
    with ours, its:
        ours.sendall(b"by socket")
        ours.shutdown(socket.SHUT_WR)
        done = shell(runner, "daggyctl run --stdin - cat", stdin=its)
    assert (done.stdout, done.returncode) == (b"by socket", 0), done


def test_what_is_piped_to_run_is_what_the_command_reads(runner: Runner) -> None:
    """Lost: "tar c . | daggyctl run -- …", or every second line of a script's loop."""
    assert shell(runner, "echo x | daggyctl run -- cat").stdout == b"x\n"
    for sent in (bytes(range(256)) * 300, b"", b"\0", "ä€".encode()):
        done = shell(runner, "daggyctl run -- cat", input=sent)
        assert (done.stdout, done.stderr, done.returncode) == (sent, b"", 0), len(sent)
    # A file by its name, too, whatever is in it.
    folder = open_folder()
    (folder / "bytes").write_bytes(b"\xff\0")
    assert shell(runner, f"echo no | daggyctl run -i {folder}/bytes -- cat").stdout == b"\xff\0"
    lines = "printf '1\\n2\\n3\\n' | while read line; do daggyctl run -n -- sh -c 'cat; echo got $1' sh $line; done"
    assert shell(runner, lines).stdout == b"got 1\ngot 2\ngot 3\n"


def test_a_pipe_that_nobody_closes_is_told_of(runner: Runner) -> None:
    """Lost: the reason why nothing happens."""
    process = subprocess.Popen(
        ["daggyctl", "-H", runner.url, "run", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stderr and b"stdin up to its end (-n: none)" in process.stderr.readline()
        assert process.communicate(b"late", timeout=60 * SLOWNESS)[0] == b"late"
    assert process.returncode == 0


def test_closed_descriptors_are_left_alone(runner: Runner) -> None:
    """Lost: what was printed into the connection to the daemon, or into a file that had got that number."""
    assert shell(runner, "daggyctl run sh -c 'exit 3' <&-").returncode == 3
    assert shell(runner, "daggyctl run sh -c 'exit 3' <&- >&- 2>&-").returncode == 3
    done = shell(runner, "daggyctl list >&-")
    assert done.returncode == 125 and b"Bad file descriptor" in done.stderr
    done = shell(runner, "daggyctl run echo hi >&-")
    assert done.returncode == 125 and b"Bad file descriptor" in done.stderr
    assert shell(runner, "daggyctl run -i - cat <&-").returncode == 2


def test_what_show_prints_can_be_pasted(runner: Runner) -> None:
    """Lost: the same command, when somebody tries by hand what a task did."""
    command = ["printf", "<%s>", "it's", "", "a b", "\\", "x=y", "~", "tab\tline\n", "\x1b[31m", "\u0085", "€", "!$`"]
    id = runner.run(command)["task_id"]
    done = shell(runner, f"daggyctl show {id}")
    line = next(line for line in done.stdout.decode().splitlines() if "Command:" in line)
    pasted = line.partition(": ")[2]
    again = subprocess.run(["bash", "-c", pasted], stdout=subprocess.PIPE, env={"LC_ALL": "C.UTF-8"}, check=True)
    assert again.stdout.decode() == "".join(f"<{argument}>" for argument in command[2:])
    assert shlex.split(pasted.partition("'tab")[0].partition("$'")[0])[:6] == command[:6]


def test_a_url_without_a_port_is_the_daemons(runner: Runner) -> None:
    """Lost: the daemon, and what a web server there makes of its requests."""
    # Where nobody listens, whatever other tests have started meanwhile.
    for host, port in (("http://127.9.8.7", 2504), ("http://[::1]/", 2504), ("-q -H https://127.9.8.7/x", 2503)):
        done = shell(runner, f"daggyctl list {host if '-H' in host else '-H ' + host}")
        assert done.returncode == 123 and f":{port}".encode() in done.stderr, done


def test_run_over_a_restart_is_a_shutdown(runner: Runner) -> None:
    """Lost: whether the command failed, or its runner was restarted."""
    process = subprocess.Popen(
        ["daggyctl", "run", "--id", (id := task_id()), "sh", "-c", "echo up; exec sleep infinity"],
        env=os.environ | {"DAGGYCTL_HOST": runner.url, "DAGGYCTL_TOKEN_FILE": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stdout.readline() == b"up\n"
    runner.stop()
    runner.start()
    _, error = process.communicate(timeout=60 * SLOWNESS)
    assert process.returncode == 143 and id.encode() in error, error


def test_properties_that_look_like_numbers_are_texts(runner: Runner) -> None:
    """Lost: AllowedCPUs=0, of all sets of CPUs the one that every machine has."""
    done = shell(runner, "daggyctl run -p AllowedCPUs=0 -p CPUWeight=50 -p MemoryHigh=104857600 true")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_stop_that_comes_too_late_keeps_the_result(runner: Runner) -> None:
    """Lost: a result, because its task ended in the very moment in which it was to be stopped."""
    for _ in range(3):
        id = runner.submit(["true"])
        runner.wait(id)
        done = shell(runner, f"daggyctl stop {id}; daggyctl -j stop {id}")
        assert done.returncode == 0 and b"not running" in done.stderr
        assert runner.attempt(id)["result"] == "success"


def test_no_stop_of_daggyctl_forgets(runner: Runner) -> None:
    """Lost: the same, by the Ctrl-C of run and by its reader's end: the DELETE is seen to say what it means."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30 * SLOWNESS)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(["daggyctl", "stop", "some"], env=os.environ | {"DAGGYCTL_HOST": url})
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(65536).decode()
        process.terminate()
        process.wait(30 * SLOWNESS)
    assert request.startswith("DELETE /api/v1/task/some?keep=true ")


def test_ctrl_c_keeps_the_result(runner: Runner) -> None:
    """Lost: what a task wrote on SIGTERM before it ended by itself."""
    id = task_id()
    process = subprocess.Popen(
        ["daggyctl", "run", "--id", id, "sleep", "infinity"],
        env=os.environ | {"DAGGYCTL_HOST": runner.url, "DAGGYCTL_TOKEN_FILE": ""},
        stderr=subprocess.PIPE,
    )
    await_that(lambda: runner.get(f"/api/v1/task/{id}").json().get("state") == "running")
    process.terminate()
    process.communicate(timeout=60 * SLOWNESS)
    assert runner.attempt(id)["result"] == "stopped"
