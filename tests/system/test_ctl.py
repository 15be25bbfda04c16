# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyctl in front of a runner, and of a queue with one runner: the same commands do the same."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import threading
import unicodedata
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bedlib import ROOMY, SLOWNESS, Queue, Runner, await_that, open_folder, processes_of, task_id

Starter = Callable[..., Any]


def environment(where: str, token_file: str = "") -> dict[str, str]:
    """Colours are tested where they are what is tested (test_ctl_lists.py)."""
    return os.environ | {"DAGGYCTL_HOST": where, "DAGGYCTL_TOKEN_FILE": token_file, "NO_COLOR": "1"}


def ctl(daemon: Runner | str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs daggyctl to its end."""
    where = daemon if isinstance(daemon, str) else daemon.url
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    if options["stdin"] is None:
        del options["stdin"]
    return subprocess.run(
        ["daggyctl", *arguments],
        env=environment(where, options.pop("token_file", "")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=60 * SLOWNESS,
        **options,
    )


def good(daemon: Runner | str, *arguments: str, **options: Any) -> str:
    """The same; it must succeed and say nothing on stderr."""
    done = ctl(daemon, *arguments, **options)
    assert (done.returncode, done.stderr) == (0, b""), f"{arguments}: {done}"
    return done.stdout.decode()


def start(daemon: Runner | str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    where = daemon if isinstance(daemon, str) else daemon.url
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(["daggyctl", *arguments], env=environment(where), **options)


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=60 * SLOWNESS)
    return process.returncode, out, err


def bytes_in(pipe: int) -> int:
    """How many can be read from it."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"    "))[0]


# run


def test_run_is_the_command_itself(daemon: Runner) -> None:
    """Lost: scripts that put daggyctl run before a command: its bytes, its streams, its exit status."""
    script = r"printf 'a\000\377\n'; printf 'e\376' >&2; exit 7"
    done = ctl(daemon, "run", "sh", "-c", script)
    assert done.stdout == b"a\0\xff\n"
    assert done.stderr == b"e\xfe"
    assert done.returncode == 7


@pytest.mark.parametrize(
    ("options", "command", "status"),
    [
        ([], ["true"], 0),
        ([], ["sh", "-c", "kill -SEGV $$"], 139),
        (["-t", "200ms"], ["sleep", "infinity"], 124),
        ([], ["/no/such/program"], 126),
        (["-c", "100000"], ["true"], 125),
    ],
)
def test_run_tells_ends_apart(daemon: Runner, options: list[str], command: list[str], status: int) -> None:
    """Lost: a script could not tell its command's failure from that of what ran it."""
    done = ctl(daemon, "run", *options, "--", *command)
    assert (done.returncode, done.stdout) == (status, b""), done
    assert (done.stderr == b"") == (status == 0), done
    assert done.stderr.count(b"\n") <= 1 and done.stderr[:10] in (b"", b"daggyctl: "), done


def test_run_of_a_user_that_is_not_there_fails_as_itself(runner: Runner) -> None:
    """Lost: the same, where only the runner knows its users."""
    done = ctl(runner, "run", "--user", "no-such-user", "--", "true")
    assert (done.returncode, done.stdout) == (125, b""), done
    assert done.stderr.count(b"\n") == 1 and done.stderr.startswith(b"daggyctl: "), done


def test_much_output_comes_whole(daemon: Runner) -> None:
    """Lost: output larger than the buffers on its way."""
    done = ctl(daemon, "run", "sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 5000000 and done.stdout.strip(b"x") == b""


def test_output_is_seen_as_it_comes(daemon: Runner) -> None:
    """Lost: watching a task work."""
    folder = open_folder()
    script = f"echo first; while [ ! -e {folder}/go ]; do sleep 0.05; done; echo second"
    process = start(daemon, "run", "sh", "-c", script)
    assert process.stdout and process.stdout.readline() == b"first\n"
    (folder / "go").touch()
    assert finish(process)[:2] == (0, b"second\n")


def test_a_reader_that_stops_loses_nothing(daemon: Runner) -> None:
    """Lost: output beyond what a pipe holds, when a pager waits for a key."""
    process = start(daemon, "run", "sh", "-c", "seq 200000")
    assert process.stdout
    head = process.stdout.read(10)
    attempts = lambda: daemon.get("/api/v1/tasks", params={"state": "completed"}).json()["tasks"]
    await_that(attempts, what="the end of the task")
    out = head + process.stdout.read()
    assert out == b"".join(b"%d\n" % n for n in range(1, 200001))
    assert finish(process)[0] == 0


def test_a_reader_that_leaves_ends_the_task(daemon: Runner) -> None:
    """Lost: "daggyctl run … | head" would leave an endless task behind."""
    id = task_id()
    process = start(daemon, "run", "--id", id, "yes")
    assert process.stdout and process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(timeout=60 * SLOWNESS) == 141
    assert daemon.wait(id)["result"] == "stopped"


def test_ctrl_c_stops_the_task(daemon: Runner) -> None:
    """Lost: Ctrl-C would leave the task running, or hide how it ended."""
    id = task_id()
    script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    process = start(daemon, "run", "--id", id, "sh", "-c", script)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    assert out == b"bye\n"
    assert status == 143 and b"stopping" in err
    assert daemon.attempt(id)["result"] == "stopped"


def test_ctrl_c_works_while_nobody_reads(daemon: Runner) -> None:
    """Lost: Ctrl-C while a pager waits for a key."""
    id = task_id()
    process = start(daemon, "run", "--id", id, "yes")
    assert process.stdout
    await_that(lambda: bytes_in(process.stdout.fileno()) > 60000, what="the pipe to be full")
    process.send_signal(signal.SIGINT)
    assert daemon.wait(id)["result"] == "stopped"
    assert finish(process)[0] == 143


@pytest.mark.plain
def test_a_second_ctrl_c_leaves(daemon: Runner) -> None:
    """Lost: a terminal held by a task that does not mind SIGTERM."""
    id = task_id()
    script = "trap '' TERM; echo ready; sleep infinity"
    process = start(daemon, "run", "--grace", "20", "--id", id, "sh", "-c", script)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr and b"once more" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    assert daemon.attempt(id)["state"] == "running"


# When the connection breaks


class Breaker:
    """Passes connections on to a daemon, and breaks them when it is told to."""

    def __init__(self, url: str) -> None:
        self._target = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.swallow_answers = 0
        """So many requests of swallow_method reach the daemon, and are closed instead of answered."""
        self.swallow_method = b"POST"
        self.requests: list[bytes] = []
        self.answers: list[bytes] = []
        self._live: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        for end in self._live:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._live.clear()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._target)
            self._live += [client, server]
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        try:
            while piece := source.recv(65536):
                if is_request:
                    self.requests.append(piece)
                elif self.swallow_answers > 0 and self.requests[-1].startswith(self.swallow_method):
                    self.swallow_answers -= 1
                    break
                else:
                    self.answers.append(piece)
                sink.sendall(piece)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def test_a_lost_answer_does_not_run_it_twice(daemon: Runner) -> None:
    """Lost: after a broken connection the user would not know, or the command would run twice."""
    breaker = Breaker(daemon.url)
    breaker.swallow_answers = 2
    folder = open_folder()
    done = ctl(breaker.url, "run", "sh", "-c", f"echo >> {folder}/ran; echo out")
    assert (done.returncode, done.stdout) == (0, b"out\n"), done
    assert (folder / "ran").read_text() == "\n"
    assert sum(request.startswith(b"POST") for request in breaker.requests) == 3


def test_following_goes_on_where_it_was(daemon: Runner) -> None:
    """Lost: output twice, or not at all, after a broken connection."""
    breaker = Breaker(daemon.url)
    folder = open_folder()
    script = f"seq 1000; while [ ! -e {folder}/go ]; do sleep 0.05; done; seq 1001 2000"
    process = start(breaker.url, "run", "sh", "-c", script)
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(1000)]
    breaker.cut()
    (folder / "go").touch()
    status, rest, _ = finish(process)
    assert b"".join(lines) + rest == b"".join(b"%d\n" % n for n in range(1, 2001))
    assert status == 0


def test_a_lost_answer_to_stop_keeps_the_result(daemon: Runner) -> None:
    """Lost: a task's result, if the request that stops it and is sent again could forget it the second time."""
    id = daemon.submit(["sleep", "infinity"])
    await_that(lambda: daemon.attempt(id)["state"] == "running")
    breaker = Breaker(daemon.url)
    breaker.swallow_method = b"DELETE"
    breaker.swallow_answers = 1
    assert ctl(breaker.url, "stop", id).returncode == 0
    assert daemon.wait(id)["result"] == "stopped"
    assert ctl(breaker.url, "stop", id).returncode == 0
    assert daemon.attempt(id)["result"] == "stopped"


def test_run_shows_every_attempt(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: what the last attempt wrote, and its exit status, when a queue runs a task again."""
    queue = start_queue({"w": start_runner(ROOMY)})
    queue.await_leases("w")
    folder = open_folder()
    script = f"echo try; echo x >> {folder}/n; [ $(wc -l < {folder}/n) = 3 ] || exit 1; echo done"
    done = ctl(queue, "run", "--retry", "5", "--backoff", "1s", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, b"try\ntry\ntry\ndone\n"), done
    assert done.stderr.count(b"failed and is run again") == 2, done
    assert len((folder / "n").read_text()) == 6


def test_nobody_there_is_told_at_once() -> None:
    """Lost: a script that waits for a daemon that does not run, or takes it for its command's failure."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for verb in (["run", "true"], ["list"], ["events"], ["output", "x"], ["wait", "x"]):
        done = ctl(f"127.0.0.1:{port}", *verb)
        assert done.returncode == 123, (verb, done)
        assert done.stderr.startswith(b"daggyctl: http://127.0.0.1:") and done.stderr.count(b"\n") == 1
    assert ctl("unix:/no/such/socket", "list").returncode == 123


# submit


def test_every_option_reaches_the_daemon(daemon: Runner) -> None:
    """Lost: options that are taken and then forgotten."""
    options = (
        "-c 0.5 -m 1G -t 1min --grace 2s -E A=b=c -E D= -C /tmp --umask 0027 --tasks-max 50"
        " -p CPUWeight=7 -p MemoryHigh=512M -p IPAddressDeny=any -l team=x -l x/y=2 --when-full queue"
    ).split()
    if isinstance(daemon, Queue):
        options += "--retry 1 --backoff 100ms --priority -5".split()
    script = 'echo "$A,$D,$(pwd),$(umask),$(cat)"'
    done = ctl(daemon, "submit", "-i", "-", *options, "--wait", "--", "sh", "-c", script, input="héllo".encode())
    assert (done.returncode, done.stderr) == (0, b"")
    attempt = daemon.attempt(done.stdout.decode().strip())
    assert attempt["output"] == "b=c,,/tmp,0027,héllo\n"
    assert attempt["resources"] == {"cores": 0.5, "memory_mb": 1024}
    assert attempt["labels"] == {"team": "x", "x/y": "2"}


def test_a_batch_of_a_file(daemon: Runner) -> None:
    """Lost: many tasks with one command; each refusal by its own name."""
    rows = [{"command": ["true"]}, {"task_id": task_id(), "command": ["sh", "-c", "exit 4"]}]
    done = ctl(daemon, "submit", "--wait", "--file", "-", input=json.dumps(rows).encode())
    ids = done.stdout.decode().split()
    assert done.returncode == 4 and len(ids) == 2 and ids[1] == rows[1]["task_id"], done
    rows = [{"command": []}, {"command": ["true"]}]
    done = ctl(daemon, "submit", "--file", "-", input=json.dumps(rows).encode())
    assert done.returncode == 125
    assert b"/command" in done.stderr and len(done.stdout.split()) == 1, done


def test_a_single_task_of_a_file(daemon: Runner) -> None:
    """Lost: bodies that options have no words for."""
    path = Path(open_folder(), "task.json")
    id = task_id()
    path.write_text(json.dumps({"task_id": id, "command": ["echo", "x"]}))
    assert good(daemon, "run", f"--file={path}") == "x\n"
    assert good(daemon, "submit", f"--file={path}") == f"{id}\n"
    done = ctl(daemon, "submit", f"--file={path}", "-c", "2")
    assert done.returncode == 2 and b"--file" in done.stderr


def test_what_is_wrong_is_named(daemon: Runner) -> None:
    """Lost: knowing what to correct."""
    for arguments, status, words in [
        (["submit", "-m", "lots", "true"], 2, b'--memory: cannot make sense of "lots"'),
        (["submit", "-E", "A", "true"], 2, b'--env: "A" is not NAME=VALUE'),
        (["submit", "--umask", "9", "true"], 125, b"/umask: must be"),
        (["submit", "-p", "Nice=7", "true"], 125, b"/properties/Nice"),
        (["submit"], 2, b"there is no command"),
        (["list", "--cores", "1"], 2, b"list does not take the option --cores"),
        (["list", "--no-such"], 2, b"--no-such"),
        (["list", "x"], 2, b"usage: daggyctl list"),
        (["wiat"], 2, b'there is no verb "wiat"'),
        (["show", "no.such.task"], 125, b"there is no task"),
        (["drain", "maybe"], 2, b"neither on nor off"),
    ]:
        done = ctl(daemon, *arguments)
        assert done.returncode == status, (arguments, done)
        assert words in done.stderr and done.stdout == b"", (arguments, done)
        assert done.stderr.startswith(b"daggyctl: ") and done.stderr.count(b"\n") == 1, (arguments, done)


# Looking


def test_list_is_a_table(daemon: Runner) -> None:
    """Lost: seeing at a glance what runs; awk over it."""
    label = f"test={task_id()}"
    done, fails = task_id("a"), task_id("b")
    good(daemon, "submit", "--id", done, "-l", label, "--wait", "-m", "2G", "echo", "two words")
    assert ctl(daemon, "submit", "--id", fails, "-l", label, "--wait", "false").returncode == 1
    lines = [line.split(None, 7) for line in good(daemon, "list", "-l", label).splitlines()]
    assert lines[0] == ["ID", "STATE", "RESULT", "CORES", "MEMORY", "TIME", "WORKER", "COMMAND"]
    rows = {row[0]: row for row in lines[1:]}
    assert set(rows) == {done, fails}
    assert rows[done][1:5] == ["completed", "success", "1", "2G"]
    assert rows[done][7] == "echo 'two words'"
    assert rows[fails][1:3] == ["errored", "exit-code"]
    assert rows[done][6] == ("w" if isinstance(daemon, Queue) else "-")
    assert len(good(daemon, "list", "-l", label, "--state", "errored").splitlines()) == 2


def test_list_goes_through_all_pages(daemon: Runner) -> None:
    """Lost: tasks beyond the first page."""
    label = f"test={task_id()}"
    rows = [{"command": ["true"], "labels": dict([label.split("=")])} for _ in range(501)]
    good(daemon, "submit", "--file", "-", input=json.dumps(rows).encode())
    assert len(good(daemon, "list", "-l", label).splitlines()) == 502
    pages = [json.loads(line) for line in good(daemon, "list", "-l", label, "--json").splitlines()]
    assert [len(page["tasks"]) for page in pages][:2] == [500, 1]


def lines_on_terminal(daemon: Runner | str, width: int, *arguments: str) -> list[str]:
    """What daggyctl writes to a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = start(daemon, *arguments, stdout=slave)
    assert finish(process)[0] == 0
    os.close(slave)
    lines = os.read(master, 65536).decode().splitlines()
    os.close(master)
    return lines


def columns_of(text: str) -> int:
    """How many columns of a terminal it takes."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def test_a_table_fits_the_terminal(daemon: Runner) -> None:
    """Lost: a table that a terminal breaks into a mess."""
    ctl(daemon, "run", "echo", "x" * 300)
    lines = lines_on_terminal(daemon, 60, "list")
    assert len(lines) == 2
    assert [len(line) for line in lines][1] == 60 and lines[1].endswith("…")


@pytest.fixture
def fake_queue() -> Iterator[Callable[[Any], str]]:
    """Starts a server that answers everything with one JSON value; returns its URL."""
    servers = []

    def serve(value: Any) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


WIDE_NAMES = ["東京", "e\u0301te\u0301", "plain", "a\x1b\u009bb"]
SHOWN_NAMES = ["東京", "e\u0301te\u0301", "plain", "a??b"]


def test_wide_and_combining_characters_are_aligned(
    fake_queue: Callable[[Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost: columns that can be read, where names are not written in Latin letters; whatever the locale is."""
    common = {"task_id": "t", "state": "running", "command": ["echo", "日本語" * 5]}
    tasks = [common | {"worker": name} for name in WIDE_NAMES]
    url = fake_queue({"tasks": tasks, "next": None})
    for locale in ("C", "C.UTF-8", "xx_XX"):
        monkeypatch.setenv("LC_ALL", locale)
        whole = good(url, "list").splitlines()
        assert [line.split()[6] for line in whole[1:]] == SHOWN_NAMES
        last_columns = [whole[0].index("COMMAND")] + [columns_of(line[: line.index("echo")]) for line in whole[1:]]
        assert len(set(last_columns)) == 1
        assert not [line for line in whole if line != line.rstrip()]
        wide = max(columns_of(line) for line in whole)
        for width in range(wide - 5, wide + 1):
            lines = lines_on_terminal(url, width, "list")
            assert {columns_of(line) for line in lines[1:]} <= {width, width - 1}
            assert all(line.endswith("…") == (width < wide) for line in lines[1:])


def test_a_table_without_rows_has_its_headers(fake_queue: Callable[[Any], str]) -> None:
    """Lost: the difference between no task and no answer."""
    assert good(fake_queue({"tasks": [], "next": None}), "list").split()[0] == "ID"


def test_a_task_cannot_reprogram_the_terminal(daemon: Runner) -> None:
    """Lost: the safety of looking at what others submitted."""
    id = task_id()
    ctl(daemon, "run", "--id", id, "--", "printf", "\033]0;evil\a\033[2J")
    for arguments in (["show", id], ["list"]):
        out = good(daemon, *arguments)
        assert "evil" in out and "\033" not in out and "\a" not in out, arguments


def test_show_tells_what_one_wants_to_know(daemon: Runner) -> None:
    """Lost: finding out why a task failed."""
    id = task_id()
    ctl(daemon, "submit", "--id", id, "-l", "a=b", "--wait", "sh", "-c", "echo out; echo err >&2; exit 9")
    out = good(daemon, "show", id)
    for words in (id, "errored (exit-code), status 9", "a=b", "cores=1", "memory_mb=512", "\nout\n", "\nerr\n"):
        assert words in out, (words, out)


def test_json_is_what_the_daemon_sent(daemon: Runner) -> None:
    """Lost: programs on top of daggyctl."""
    id = task_id()
    good(daemon, "submit", "--id", id, "--wait", "echo", "x")
    assert good(daemon, "show", "--json", id) == daemon.get(f"/api/v1/task/{id}").text + "\n"
    assert good(daemon, "wait", "--json", id) == daemon.get(f"/api/v1/task/{id}").text + "\n"
    assert json.loads(good(daemon, "capacity", "--json"))["total"]["cores"] == 32
    assert json.loads(good(daemon, "impact", "--json", "-c", "16"))["max_impact"] == 0.5


def test_wait_for_several(daemon: Runner) -> None:
    """Lost: waiting for all of a job, with the status of the first failure."""
    ids = [task_id() for _ in range(3)]
    for id, script in zip(ids, ["sleep 0.5", "exit 5", "exit 6"]):
        good(daemon, "submit", "--id", id, "sh", "-c", script)
    done = ctl(daemon, "wait", *ids)
    assert done.returncode == 5
    assert done.stdout.decode().splitlines() == [
        f"{ids[0]}: completed (success)",
        f"{ids[1]}: errored (exit-code)",
        f"{ids[2]}: errored (exit-code)",
    ]


def test_wait_gives_up_in_time(daemon: Runner) -> None:
    """Lost: a script that waits for ever."""
    id = task_id()
    good(daemon, "submit", "--id", id, "sleep", "infinity")
    await_that(lambda: daemon.attempt(id)["state"] == "running", what="it to run")
    done = ctl(daemon, "wait", "-t", "300ms", id)
    assert done.returncode == 124 and b"is still running" in done.stderr, done


def test_output_of_either_stream(daemon: Runner) -> None:
    """Lost: looking at the output later, or from the middle of it."""
    id = task_id()
    good(daemon, "submit", "--id", id, "sh", "-c", "printf 'a\\377'; echo err >&2; sleep 0.5; echo late")
    assert ctl(daemon, "output", "-f", id).stdout == b"a\xfflate\n"
    assert ctl(daemon, "output", "--stderr", id).stdout == b"err\n"


# Acting


def test_stop_and_forget_do_not_mix(daemon: Runner) -> None:
    """Lost: a result that "stop" came too late for; a running task that "forget" ended."""
    id = task_id()
    good(daemon, "submit", "--id", id, "sleep", "infinity")
    await_that(lambda: daemon.attempt(id)["state"] == "running")
    assert ctl(daemon, "forget", id).returncode == 125
    assert good(daemon, "stop", "--wait", id) == f"{id}: killed (stopped)\n"
    assert processes_of(id) == []
    again = ctl(daemon, "stop", id)
    assert again.returncode == 0 and b"not running" in again.stderr
    assert daemon.attempt(id)["result"] == "stopped"
    good(daemon, "forget", id)
    assert daemon.get(f"/api/v1/task/{id}").status_code == 404


def test_events_are_watched(daemon: Runner) -> None:
    """Lost: seeing what happens, across a broken connection."""
    breaker = Breaker(daemon.url)
    process = start(breaker.url, "events")
    assert process.stdout
    await_that(lambda: any(b"event-stream" in answer for answer in breaker.answers), what="the answer to begin")
    first, second = task_id(), task_id()

    def await_line(id: str) -> None:
        while not (line := process.stdout.readline().decode()).startswith(f"task     {id} completed (success)"):
            assert line, "no more events"

    good(daemon, "submit", "--id", first, "true")
    await_line(first)
    breaker.cut()
    good(daemon, "submit", "--id", second, "true")
    await_line(second)
    process.send_signal(signal.SIGINT)
    finish(process)


def test_drain(daemon: Runner) -> None:
    """Lost: taking a host out of service."""
    good(daemon, "drain", "on")
    assert "draining" in good(daemon, "capacity")
    assert ctl(daemon, "submit", "true").returncode == 125
    good(daemon, "drain", "off")
    assert "draining" not in good(daemon, "capacity")


def test_what_only_one_daemon_has(daemon: Runner) -> None:
    """Lost: a word of explanation when it is the other one that was asked."""
    if not isinstance(daemon, Queue):
        assert good(daemon, "lease") == "free\n"
        for verb in (["members"], ["workers"], ["queues"], ["worker", "disable", "w"]):
            done = ctl(daemon, *verb)
            assert done.returncode == 125 and b"this is a runner" in done.stderr, done
        return
    assert b"this is a queue" in ctl(daemon, "lease").stderr
    assert good(daemon, "members").splitlines()[1].split()[1:4] == ["alive", "self,leading", "1"]
    assert good(daemon, "workers").splitlines()[1].split()[:4] == ["w", "alive", "yes", "own"]
    good(daemon, "worker", "disable", "w")
    assert good(daemon, "workers").splitlines()[1].split()[:2] == ["w", "disabled"]
    good(daemon, "worker", "enable", "w")
    assert ctl(daemon, "worker", "enable", "x").returncode == 125
    assert daemon.url.rsplit("/", 1)[1] in good(daemon, "queues")


# How it comes in


def test_a_token_is_shown(start_runner: Starter) -> None:
    """Lost: the use of a daemon that asks for a token."""
    path = Path(open_folder("/etc"), "token")  # the service sees no /tmp of others
    path.write_text("open-sesame-0123456789abcdef0123\n")
    path.chmod(0o644)
    runner = start_runner({"auth": {"token_file": str(path)}})
    done = ctl(runner, "list")
    assert done.returncode == 125 and b"--token-file" in done.stderr
    assert good(runner, "--token-file", str(path), "run", "echo", "x") == "x\n"
    assert good(runner, "list", token_file=str(path)).count("\n") == 2


@pytest.mark.serial
def test_ui_prints_an_address_that_opens_a_session(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the page, for everybody whose browser has no token, that is for all."""
    token_file = open_folder("/etc") / "token"
    token_file.write_text("correct-horse-battery-staple\n")
    token_file.chmod(0o644)
    config = {"auth": {"token_file": str(token_file)}}
    for daemon in (start_runner(ROOMY | config), start_queue({}, config)):
        address = good(daemon, "ui", token_file=str(token_file)).rstrip("\n")
        page, _, code = address.partition("#code=")
        assert page == f"{daemon.url}/ui/"
        assert daemon.http.get(page, timeout=60 * SLOWNESS).status_code == 200
        answer = daemon.post("/ui/session", json={"code": code})
        assert answer.status_code == 204  # whose cookie the next request shows
        assert daemon.get("/api/v1/tasks").status_code == 200
        refused = ctl(daemon, "ui")
        assert (refused.returncode, refused.stdout) == (125, b"")
        assert b"token" in refused.stderr


def test_ui_tells_when_a_browser_would_not_get_there(runner: Runner) -> None:
    """Lost: the reason, which a browser shows as an error or not at all."""
    port = runner.url.rpartition(":")[2]
    elsewhere = ctl(runner, "ui", "--url", "http://127.0.0.1:1")
    assert (elsewhere.returncode, elsewhere.stdout) == (123, b"")
    assert good(runner, "ui", "--url", f"http://localhost:{port}").startswith(f"http://localhost:{port}/ui/#code=")
    assert json.loads(good(runner, "ui", "--json"))["code"]


def test_the_default_is_this_hosts_socket() -> None:
    """Lost: "daggyctl list" without any option, on a host as it is installed."""
    subprocess.run(["systemctl", "start", "daggyr.socket"], check=True)
    try:
        done = subprocess.run(
            ["daggyctl", "run", "echo", "hi"], stdout=subprocess.PIPE, timeout=60 * SLOWNESS
        )
        assert (done.returncode, done.stdout) == (0, b"hi\n")
    finally:
        subprocess.run(["systemctl", "stop", "daggyr.socket", "daggyr.service"], check=True)
