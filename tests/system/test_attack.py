# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a task tries that means harm. Each attempt is made from inside a task, as its account.

An attack is a few lines of Python that end in an exception if they are held off; what it prints is the exception, so
that a test can insist on the reason, not only on the failure. PermissionError is the kernel's word for all of them.
"""

from __future__ import annotations

import os
import pwd
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from bedlib import (
    PYTHON,
    ROOMY,
    Runner,
    await_that,
    journal_of,
    open_folder,
    processes_of,
    run,
    scope_of,
    task_id,
    unit_property,
)

TASK_USER = "daggyr-task"
OTHER_USER = "games"
SYSTEMD = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr whose tasks may be of two accounts."""
    return start_runner(ROOMY | {"allowed_users": [OTHER_USER]})


def attack(runner: Runner, code: str, **fields: str) -> str:
    """What came of it: the name of the exception that stopped it, or "done"."""
    script = f"try:\n{textwrap.indent(textwrap.dedent(code), '    ')}\nexcept Exception as e: print(type(e).__name__)\nelse: print('done')"
    attempt = runner.run([PYTHON, "-c", "import ctypes, os, signal, socket\n" + script], **fields)
    assert attempt["result"] == "success", attempt
    return attempt["output"].strip()


def call(runner: Runner, *arguments: str) -> str:
    """What a task hears when it calls a method over the system bus."""
    attempt = runner.run(["busctl", "call", "--expect-reply=yes", *arguments])
    assert attempt["exit_code"] != 0, attempt
    return attempt["error"]


REFUSED = ("Access denied", "Interactive authentication required", "Permission denied", "not available on non-delegated")


def assert_refused(error: str) -> None:
    assert any(words in error for words in REFUSED), error


def test_the_attacks_would_work_for_root() -> None:
    """Lost: this file, to a typing error that fails for everybody."""
    unit = f"daggyr-attack-{task_id()}.service"
    start = ["busctl", "call", *SYSTEMD, "StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail"]
    run(*start, "1", "ExecStart", "a(sasb)", "1", "/bin/true", "1", "/bin/true", "false", "0")
    own = ["sleep", "60"]
    run("systemd-run", "--quiet", "--collect", f"--unit=x{unit}", *own)
    run("busctl", "call", *SYSTEMD, "SetUnitProperties", "sba(sv)", f"x{unit}", "true", "1", "TasksMax", "t", "99")
    run("busctl", "call", *SYSTEMD, "KillUnit", "ssi", f"x{unit}", "all", "9")


def test_it_starts_no_units(runner: Runner) -> None:
    """Lost: root, for whoever may start a service may start one of root."""
    arguments = ["StartTransientUnit", "ssa(sv)a(sa(sv))", f"{task_id('evil')}.service", "fail"]
    arguments += ["1", "ExecStart", "a(sasb)", "1", "/bin/true", "1", "/bin/true", "false", "0"]
    assert_refused(call(runner, *SYSTEMD, *arguments))
    assert_refused(call(runner, *SYSTEMD, "StartUnit", "ss", "daggyr-spawner@1-1-1.service", "fail"))


def test_it_moves_no_processes_between_units(runner: Runner) -> None:
    """Lost: limits, that a task leaves by joining another unit."""
    delegated = f"{task_id('delegated')}.service"
    run("systemd-run", "--quiet", "--collect", "--property=Delegate=yes", f"--unit={delegated}", "sleep", "60")
    pid = str(runner.main_pid)
    for unit in (runner.unit, "init.scope", "", delegated):
        assert_refused(call(runner, *SYSTEMD, "AttachProcessesToUnit", "ssau", unit, "", "1", pid))
    script = 'busctl call "$@" 1 $$'
    arguments = [*SYSTEMD, "AttachProcessesToUnit", "ssau", delegated, ""]
    attempt = runner.run(["sh", "-c", script, "sh", *arguments])
    assert attempt["exit_code"] != 0
    assert_refused(attempt["error"])
    run("systemctl", "stop", delegated)


def test_it_does_not_lift_its_own_limits(runner: Runner) -> None:
    """Lost: limits."""
    id = task_id("limits")
    command = ["busctl", "call", *SYSTEMD, "SetUnitProperties", "sba(sv)", scope_of(id), "true"]
    id = runner.submit([*command, "1", "MemoryMax", "t", str(1 << 40)], id=id)
    attempt = runner.wait(id)
    assert attempt["exit_code"] != 0
    assert_refused(attempt["error"])


def test_it_kills_and_stops_no_units(runner: Runner) -> None:
    """Lost: the daemon, and everybody's tasks with it, to any task."""
    assert_refused(call(runner, *SYSTEMD, "KillUnit", "ssi", runner.unit, "all", "9"))
    for method in ("StopUnit", "RestartUnit", "ReloadUnit"):
        assert_refused(call(runner, *SYSTEMD, method, "ss", runner.unit, "fail"))
    for method in ("FreezeUnit", "ResetFailedUnit"):
        assert_refused(call(runner, *SYSTEMD, method, "s", runner.unit))
    assert runner.state == "active"


def test_it_has_no_way_to_systemd_past_the_bus(runner: Runner) -> None:
    """Lost: polkit's say, for the private socket asks nobody."""
    assert Path("/run/systemd/private").is_socket()
    code = "socket.socket(socket.AF_UNIX).connect('/run/systemd/private')"
    assert attack(runner, code) == "PermissionError"


def test_polkit_grants_it_nothing(runner: Runner) -> None:
    """Lost: whatever the rule for the daemon's account lets through for others."""
    script = "pkcheck --action-id org.freedesktop.systemd1.manage-units --process $$; echo $?"
    assert runner.run(["sh", "-c", script])["output"].splitlines()[-1] != "0"
    assert runner.run(["sh", "-c", script], user=OTHER_USER)["output"].splitlines()[-1] != "0"


TARGETS = {
    "daemon": "{runner.main_pid}",
    "spawner": "{spawner}",
    "leader": "os.getppid()",
    "pid1": "1",
}
ACTS = {
    "signal 0": "os.kill({pid}, 0)",
    "SIGSTOP": "os.kill({pid}, signal.SIGSTOP)",
    "SIGKILL": "signal.pidfd_send_signal(os.pidfd_open({pid}), signal.SIGKILL)",
    "environ": "open(f'/proc/{{{pid}}}/environ').read()",
    "mem": "open(f'/proc/{{{pid}}}/mem', 'rb')",
    "fd": "os.listdir(f'/proc/{{{pid}}}/fd')",
    "maps": "open(f'/proc/{{{pid}}}/maps').read()",
    "cwd": "os.readlink(f'/proc/{{{pid}}}/cwd')",
    "oom_score_adj": "open(f'/proc/{{{pid}}}/oom_score_adj', 'w')",
    "ptrace": "check(libc.ptrace(0x4206, {pid}, 0, 0))",
    "pidfd_getfd": "check(libc.syscall(438, os.pidfd_open({pid}), 0, 0))",
    "process_vm_readv": "check(libc.process_vm_readv({pid}, ctypes.byref(iov), 1, ctypes.byref(iov), 1, 0))",
    "prlimit": "__import__('resource').prlimit({pid}, 7, (1, 1))",
    "nice": "os.setpriority(os.PRIO_PROCESS, {pid}, 19)",
    "affinity": "os.sched_setaffinity({pid}, [0])",
}
PREPARE = """
libc = ctypes.CDLL(None, use_errno=True)
class Iov(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
iov = Iov(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
def check(r):
    if r < 0: raise OSError(ctypes.get_errno(), "refused")
"""


def acts_on(runner: Runner, pid: str, only: Iterable[str] = tuple(ACTS), **fields: str) -> dict[str, str]:
    """What came of each of ACTS, by its name."""
    lines = [PREPARE]
    for name, act in ((name, ACTS[name]) for name in only):
        lines += [f"try: {act.format(pid=pid)}", f"except Exception as e: print({name!r}, type(e).__name__, sep=':')"]
        lines += [f"else: print({name!r}, 'done', sep=':')"]
    code = "import ctypes, os, signal\n" + "\n".join(lines)
    attempt = runner.run([PYTHON, "-c", code], **fields)
    assert attempt["result"] == "success", attempt
    return dict(line.split(":") for line in attempt["output"].splitlines())


@pytest.mark.parametrize("target", TARGETS)
def test_it_does_not_touch_processes_above_it(runner: Runner, target: str) -> None:
    """Lost: a task could take over the processes that guard it, or end them."""
    spawner = await_that(lambda: int(unit_property(runner.spawner_unit, "MainPID")), what="the spawner's process")
    pid = TARGETS[target].format(runner=runner, spawner=spawner)
    assert acts_on(runner, pid) == dict.fromkeys(ACTS, "PermissionError")
    assert runner.run(["true"])["succeeded"]


def test_it_does_not_touch_tasks_of_other_users(runner: Runner) -> None:
    """Lost: the separation that allowed_users is for."""
    victim = runner.submit(["sleep", "infinity"], environment={"PASSWORD": "1"})
    pid = str(await_that(lambda: processes_of(victim))[0])
    assert acts_on(runner, pid, user=OTHER_USER) == dict.fromkeys(ACTS, "PermissionError")
    # Another task of its own user is not protected from it, as docs/security.md says; and so these acts do work.
    working = ("signal 0", "environ", "mem", "fd", "maps", "cwd", "prlimit", "nice", "affinity", "SIGKILL")
    assert acts_on(runner, pid, working) == dict.fromkeys(working, "done")
    assert runner.wait(victim)["signal"] == "SIGKILL"


def test_it_does_not_reach_the_daemons_sockets(runner: Runner) -> None:
    """Lost: the right to submit that the group has, and the spawner, which is as good as root."""
    run("systemctl", "start", "daggyr.socket")
    for path, kind in (("daggyr.sock", "SOCK_STREAM"), ("spawner.sock", "SOCK_SEQPACKET")):
        assert Path("/run/daggyr", path).is_socket()
        code = f"socket.socket(socket.AF_UNIX, socket.{kind}).connect('/run/daggyr/{path}')"
        assert attack(runner, code) == "PermissionError", path
        assert attack(runner, code, user=OTHER_USER) == "PermissionError", path
    assert attack(runner, "os.rename('/run/daggyr', '/run/daggyr2')") == "PermissionError"
    assert attack(runner, "os.unlink('/run/daggyr/daggyr.sock')") == "PermissionError"


def test_it_reaches_the_port_but_not_past_the_token(start_runner: Callable[..., Runner]) -> None:
    """Lost: what docs/security.md says of the TCP port: open to every process of the host unless a token is set."""
    code = """
        import urllib.request
        urllib.request.urlopen('{}/api/v1/capacity')
    """
    open_one = start_runner(ROOMY)
    assert attack(open_one, code.format(open_one.url)) == "done"
    token = open_folder("/etc") / "token"
    token.write_text("a-token-that-is-not-for-tasks")
    token.chmod(0o600)
    guarded = start_runner(ROOMY, properties={"LoadCredential": f"daggyr.token:{token}"})
    assert guarded.get("/api/v1/capacity").status_code == 401
    assert attack(open_one, code.format(guarded.url)) == "HTTPError"
    credential = f"/run/credentials/{guarded.unit}"
    assert attack(open_one, f"os.listdir('{credential}')") == "PermissionError"
    assert attack(open_one, f"open('{credential}/daggyr.token')") == "PermissionError"
    assert attack(open_one, f"open('/proc/{guarded.main_pid}/root{credential}/daggyr.token')") == "PermissionError"


def test_it_does_not_see_captured_output(runner: Runner) -> None:
    """Lost: the output of others' tasks."""
    folder = Path("/var/cache/daggyr")
    assert folder.is_dir()
    for act in (f"os.listdir('{folder}')", f"open('{folder}/x', 'w')", f"os.symlink('/etc', '{folder}/x')"):
        assert attack(runner, act) == "PermissionError"


def test_it_stays_in_its_cgroup(runner: Runner) -> None:
    """Lost: limits, and the certainty that a task's processes can be found and ended."""
    code = """
        held = {}
        for line in open('/proc/self/cgroup'):
            _, controllers, path = line.strip().split(':')
            top = '/sys/fs/cgroup/' + (controllers.removeprefix('name=') if controllers else 'unified')
            if not os.path.isdir(top): top = '/sys/fs/cgroup'
            own = top + path
            for folder in {own, os.path.dirname(own), top}:
                try: files = os.listdir(folder)
                except FileNotFoundError: continue  # systemd has moved this process in a v1 hierarchy meanwhile
                for file in files:
                    full = folder + '/' + file
                    if os.path.isdir(full): continue
                    try: open(full, 'w').close()
                    except (PermissionError, OSError): held[full] = 1
                    else: print('could write', full)
            try: os.mkdir(own + '/evil')
            except OSError: pass
            else: print('could make', own)
        if len(held) < 20: print('hardly tried', held)
    """
    assert attack(runner, code) == "done"
    code = "open(next(p for p in ('/sys/fs/cgroup/cgroup.procs', '/sys/fs/cgroup/systemd/cgroup.procs') if os.path.exists(p)), 'w').write(str(os.getpid()))"
    assert attack(runner, code) in ("PermissionError", "OSError")


def test_setuid_programs_do_not_help(runner: Runner) -> None:
    """Lost: no_new_privs, and with it the harmlessness of every setuid program with a hole."""
    folder = open_folder("/var/lib")
    program = folder / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    ordinary = ["setpriv", f"--reuid={TASK_USER}", "--clear-groups", str(program), "-u"]
    assert run(*ordinary).strip() == "0"
    uid = pwd.getpwnam(TASK_USER).pw_uid
    assert runner.run([str(program), "-u"])["output"] == f"{uid}\n"
    capable = folder / "python"
    capable.write_bytes(Path(PYTHON).resolve().read_bytes())
    run("setcap", "cap_setuid+ep", str(capable))
    capable.chmod(0o755)
    ordinary = ["setpriv", f"--reuid={TASK_USER}", "--clear-groups", str(capable)]
    assert run(*ordinary, "-c", "import os; os.setuid(0); print(os.getuid())").strip() == "0"
    attempt = runner.run([str(capable), "-c", "import os; os.setuid(0)"])
    assert attempt["result"] == "exec-failed" or "PermissionError" in attempt["error"], attempt


def test_pkexec_and_su_do_not_help(runner: Runner) -> None:
    """Lost: the same, for the programs that everybody has."""
    for command in (["pkexec", "id", "-u"], ["su", "-c", "id -u"], ["systemd-run", "--quiet", "--wait", "--pipe", "id", "-u"]):
        attempt = runner.run(command)
        assert (attempt["succeeded"], attempt["output"]) != (True, "0\n")
        assert "0\n" not in attempt["output"]


def test_it_does_not_speak_for_other_units_in_the_journal(runner: Runner) -> None:
    """Lost: the journal as a witness."""
    mark = task_id("forged")
    message = f"MESSAGE={mark}\\n_SYSTEMD_UNIT={runner.unit}\\nUNIT={runner.unit}\\nOBJECT_SYSTEMD_UNIT={runner.unit}\\n"
    message += f"COREDUMP_UNIT={runner.unit}\\n_PID=1\\n_UID=0\\n"
    code = f"""
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.sendto(b"{message}", '/run/systemd/journal/socket')
        t = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        t.connect('/run/systemd/journal/stdout')
        t.sendall(b"x\\n{runner.unit}\\n6\\n0\\n0\\n0\\n0\\n{mark}\\n")
    """
    assert attack(runner, code) == "done"

    def found() -> bool:
        run("journalctl", "--sync")
        return run("journalctl", "--quiet", "--output=cat", f"_UID={pwd.getpwnam(TASK_USER).pw_uid}").count(mark) == 2

    await_that(found, what="both entries, under the task's own account")
    assert mark not in journal_of(runner.unit)
    assert mark not in run("journalctl", "--quiet", "--output=cat", "_UID=0")


def test_it_does_not_speak_for_the_daemon_to_systemd(runner: Runner) -> None:
    """Lost: the daemon's status, its watchdog and even its main pid, to a datagram."""
    environment = Path(f"/proc/{runner.main_pid}/environ").read_bytes().split(b"\0")
    path = next(line.partition(b"=")[2] for line in environment if line.startswith(b"NOTIFY_SOCKET=")).decode()
    message = "STATUS=forged\\nSTOPPING=1\\nERRNO=1\\nWATCHDOG=trigger\\nMAINPID='+str(os.getpid())+'"
    code = f"""
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.sendto(('{message}').encode(), {path!r}.replace('@', '\\0', 1))
    """
    pid = runner.main_pid
    assert attack(runner, code) in ("done", "PermissionError")
    run("systemctl", "daemon-reload")  # systemd has read what was sent before
    assert (runner.state, runner.main_pid) == ("active", pid)
    assert "forged" not in unit_property(runner.unit, "StatusText")


def test_it_keeps_no_keys_of_others(runner: Runner) -> None:
    """Lost: keys, for whoever shares a session keyring can use what is in it."""
    keyctl = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    describe = f"""
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = ctypes.create_string_buffer(256)
        n = libc.syscall({keyctl}, 6, ctypes.c_int(-3), buffer, 256)  # KEYCTL_DESCRIBE, the session keyring
        print(buffer.value.decode() if n >= 0 else -ctypes.get_errno(), libc.syscall({keyctl}, 0, ctypes.c_int(-3), 0))
    """
    first, second = (attack(runner, describe).split()[0:2] for _ in range(2))
    kind, owner = first[0].split(";")[:2]
    assert (kind, int(owner)) == ("keyring", pwd.getpwnam(TASK_USER).pw_uid)
    assert first[1] != second[1]


def test_it_does_not_outlive_its_end_by_changing_itself(runner: Runner) -> None:
    """Lost: the promise that no process is left, to one that forks, detaches and hides its name."""
    mark = task_id("hidden")
    code = f"""
        for _ in range(5):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    os.chdir('/')
                    os.execve('/bin/sleep', ['{mark}', '600'], {{}})
                os._exit(0)
    """
    assert attack(runner, code, grace=0.2) == "done"
    assert run("pgrep", "--full", mark, check=False) == ""
