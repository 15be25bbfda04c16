# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a task writes is what its client reads."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from bedlib import PYTHON, ROOMY, SLOWNESS, Runner, await_that, open_folder, processes_of

SIZE = 1_000_000


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


def writer(alphabet: str) -> str:
    """A program that writes SIZE pseudo-random bytes to each stream, in turns and odd pieces."""
    return f"""
import random, os
r = random.Random(7)
data = [r.choices({alphabet}, k={SIZE}) for _ in range(2)]
data = [bytes(d) for d in data]
at = [0, 0]
while min(at) < {SIZE}:
    for n in 0, 1:
        at[n] += os.write(n + 1, data[n][at[n]:at[n] + r.randrange(1, 70000)])
"""


def test_a_megabyte_of_each_stream_arrives_unchanged(runner: Runner) -> None:
    """Lost: logs and reports with holes, duplicates or parts of the other stream in them."""
    attempt = runner.run([PYTHON, "-c", writer("range(10, 127)")])
    source = random.Random(7)
    expected = [bytes(source.choices(range(10, 127), k=SIZE)).decode() for _ in range(2)]
    assert (attempt["output_bytes"], attempt["error_bytes"]) == (SIZE, SIZE)
    assert attempt["output"] == expected[0]
    assert attempt["error"] == expected[1]
    assert (attempt["output_truncated"], attempt["error_truncated"]) == (False, False)


def test_arbitrary_bytes_are_counted_exactly(runner: Runner) -> None:
    """Lost: binary output would be cut at the first zero, or counted in characters."""
    attempt = runner.run([PYTHON, "-c", writer("range(256)")])
    assert attempt["succeeded"]
    assert (attempt["output_bytes"], attempt["error_bytes"]) == (SIZE, SIZE)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"no line break", "no line break"),
        (b"a\xffb\xfe", "a\ufffdb\ufffd"),
        (b"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x90\x8b", "\u00e4 \u20ac \U0001f40b"),
        (b"cut off: \xe2\x82", "cut off: \ufffd"),
        (b'\x01\x1b\x7f"\\\r\n', '\x01\x1b\x7f"\\\r\n'),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
    ],
    ids=["line", "invalid", "utf-8", "cut", "controls", "surrogate"],
)
def test_output_is_shown_as_utf8(runner: Runner, written: bytes, shown: str) -> None:
    """Lost: one odd byte would make the whole attempt unreadable for strict JSON parsers."""
    attempt = runner.run([PYTHON, "-c", f"import os; os.write(1, {written!r})"])
    assert attempt["output"] == shown
    assert attempt["output_bytes"] == len(written)


def test_output_can_be_read_while_the_task_runs(runner: Runner) -> None:
    """Lost: nobody could watch a long task."""
    id = runner.submit(["sh", "-c", "echo out; echo err >&2; sleep infinity"])
    await_that(lambda: runner.attempt(id)["error"] == "err\n", timeout=5, what="live output")
    attempt = runner.attempt(id)
    assert (attempt["state"], attempt["output"], attempt["output_bytes"]) == ("running", "out\n", 4)


def test_output_is_followed_from_where_one_left_off(runner: Runner) -> None:
    """Lost: a client that lost its connection would have to read, or miss, what came before."""
    gate = open_folder() / "gate"
    script = f"printf one >&2; echo other; until [ -e {gate} ]; do sleep 0.02; done; printf two >&2; sleep 0.2"
    id = runner.submit(["sh", "-c", script])
    await_that(lambda: runner.attempt(id)["error_bytes"] == 3, what="the first word")
    path = f"/api/v1/task/{id}/output?stream=stderr&follow=true&offset="
    with runner.get(f"{path}1", stream=True) as early, runner.get(f"{path}5", stream=True) as late:
        assert early.raw.read(2) == b"ne"  # at once, while the task runs
        gate.touch()
        assert early.raw.read() == b"two"
        assert late.raw.read() == b"o"  # from beyond what there was
    assert runner.wait(id)["error"] == "onetwo"
    assert runner.get(f"{path}7").content == b""


def test_the_last_line_needs_no_line_break(runner: Runner) -> None:
    """Lost: what a program says last, and most often it is why it failed."""
    attempt = runner.run(["sh", "-c", "printf 'a\\nb'; printf 'c\\nd' >&2; exit 1"])
    assert (attempt["output"], attempt["error"]) == ("a\nb", "c\nd")


def test_a_pipe_held_by_a_leftover_delays_no_output(runner: Runner) -> None:
    """Lost: output would come only when the last holder of the pipe goes."""
    start = time.monotonic()
    attempt = runner.run(["sh", "-c", "(setsid sleep infinity &) ; echo words"])
    assert attempt["output"] == "words\n"
    assert time.monotonic() - start < 5 * SLOWNESS


def test_a_pipe_held_outside_of_the_scope_delays_no_end(runner: Runner) -> None:
    """Lost: any process that opens a task's stdout could keep the task from ending."""
    id = runner.submit(["sh", "-c", "echo words; read line < /dev/zero; exec sleep 0.5"])
    await_that(lambda: runner.attempt(id)["output"], what="its output")
    (pid,) = await_that(lambda: processes_of(id), what="its process")
    with open(f"/proc/{pid}/fd/1", "wb"):
        runner.delete(f"/api/v1/task/{id}")
        attempt = runner.wait(id, seconds=5)
    assert (attempt["result"], attempt["output"]) == ("stopped", "words\n")


def test_output_beyond_the_limit_is_cut_and_says_so(start_runner: Callable[..., Runner]) -> None:
    """Lost: one task that writes without end would fill the memory, or block when it is full."""
    runner = start_runner(ROOMY | {"output_max_bytes": 1000})
    attempt = runner.run([PYTHON, "-c", "import sys; sys.stderr.write('y'); print('x' * 300_000)"])
    assert attempt["succeeded"]
    assert attempt["output_truncated"]
    assert not attempt["error_truncated"]
    assert set(attempt["output"]) <= {"x", "\n"}
    assert 0 < len(attempt["output"]) <= 1000


def test_large_output_is_embedded_only_in_part(start_runner: Callable[..., Runner]) -> None:
    """Lost: an answer could be as large as all that is captured."""
    runner = start_runner(ROOMY | {"inline_output_bytes": 100})
    attempt = runner.run(["seq", "1000"])
    assert attempt["output_bytes"] == len("".join(f"{n}\n" for n in range(1, 1001)))
    assert len(attempt["output"]) <= 100
    assert attempt["output"] in "".join(f"{n}\n" for n in range(1, 1001))


def test_a_task_that_writes_much_to_one_stream_is_not_blocked(runner: Runner) -> None:
    """Lost: a program that fills one pipe while the other is silent would hang."""
    attempt = runner.run([PYTHON, "-c", "import sys; sys.stderr.write('e' * 3_000_000)"], timeout=60)
    assert (attempt["result"], attempt["error_bytes"]) == ("success", 3_000_000)


def test_what_is_shown_of_long_output_is_cut_at_characters(runner: Runner) -> None:
    """Lost: the first or last character of what is shown, in place of which U+FFFD would accuse the task."""
    script = "import sys; sys.stdout.write('xx' + 600000 * '€'); sys.stderr.write(600000 * '🐋')"
    id = runner.submit([PYTHON, "-X", "utf8", "-c", script])
    full = runner.wait(id)
    tail = runner.attempt(id, output="tail")
    for attempt in (full, tail):
        assert attempt["output_truncated"] and attempt["error_truncated"]
        assert "\ufffd" not in attempt["output"] + attempt["error"]
    assert full["output"].startswith("xx€") and full["output"].endswith("€")
    assert len(full["output"].encode()) > 1048576 - 4
    assert set(tail["output"]) == {"€"} and len(tail["output"].encode()) > 8192 - 4
    assert set(tail["error"]) == {"🐋"} and len(tail["error"].encode()) > 8192 - 4


def test_what_was_cut_inside_a_character_is_all_that_is_cut(runner: Runner) -> None:
    """Lost: bytes that are wrong of themselves, which the cut must not hide."""
    script = "import os; os.write(1, b'\\x80' * 20000)"
    tail = runner.attempt(runner.run([PYTHON, "-c", script])["task_id"], output="tail")
    assert set(tail["output"]) == {"\ufffd"} and len(tail["output"]) > 8000
