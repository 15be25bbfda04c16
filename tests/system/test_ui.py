# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page for people as HTTP sees it: its files and their headers, and how a browser gets to read without the token.
What people see of it is in test_ui_page.py."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from bedlib import ROOMY, Queue, Runner, open_folder, run, task_id
from peerlib import NOBODY, UnixRunner
from test_tls import Authority, speak_https

SOURCES = Path(__file__).parents[2] / "src/ui"
FILES = sorted(path.name for path in SOURCES.iterdir() if path.suffix in (".html", ".css", ".js", ".svg"))
TOKEN = "correct-horse-battery-staple"
GOOD = {"Authorization": f"Bearer {TOKEN}"}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

Starter = Callable[..., Any]
PROGRAMS = ["daggyr", "daggyd"]


def guarded_config() -> dict[str, Any]:
    path = Path(open_folder("/etc"), "token")  # the service sees no /tmp of others
    path.write_text(TOKEN + "\n")
    path.chmod(0o644)
    return {"auth": {"token_file": str(path)}}


@pytest.fixture(params=PROGRAMS)
def daemon(request: pytest.FixtureRequest, start_runner: Starter, start_queue: Starter) -> Runner:
    """Either of them, open to whoever is on this host."""
    return start_runner(ROOMY) if request.param == "daggyr" else start_queue({})


@pytest.fixture(params=PROGRAMS)
def guarded(request: pytest.FixtureRequest, start_runner: Starter, start_queue: Starter) -> Runner:
    """Either of them, asking for a token."""
    config = guarded_config()
    return start_runner(ROOMY | config) if request.param == "daggyr" else start_queue({}, config)


def make_code(daemon: Runner) -> str:
    answer = daemon.post("/api/v1/ui/code", headers=GOOD)
    assert answer.status_code == 200
    return answer.json()["code"]


def begin(daemon: Runner, code: str, **headers: str) -> requests.Response:
    """Trades the code for a session; its cookie is left to the caller."""
    answer = daemon.post("/ui/session", json={"code": code}, headers=headers)
    daemon.http.cookies.clear()
    return answer


def cookie_of(answer: requests.Response) -> dict[str, str]:
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def open_session(daemon: Runner) -> dict[str, str]:
    """A header that shows a new session."""
    answer = begin(daemon, make_code(daemon))
    assert answer.status_code == 204
    return cookie_of(answer)


def test_each_file_is_served_as_it_stands_in_the_sources(daemon: Runner) -> None:
    """Lost: the page, or that what is read in the sources is what runs."""
    for name in FILES:
        answer = daemon.get(f"/ui/{name}")
        assert answer.status_code == 200, name
        assert answer.content == (SOURCES / name).read_bytes(), name
        assert answer.headers["Content-Type"].partition(";")[0] == TYPES[Path(name).suffix]
    assert daemon.get("/ui/").content == (SOURCES / "index.html").read_bytes()
    for name in ("files.h", "embed.sh", "..%2Ffiles.h", "index.html%00", "INDEX.HTML"):
        assert daemon.get(f"/ui/{name}").status_code in (400, 404), name


def test_who_asks_for_nothing_is_shown_the_page(daemon: Runner) -> None:
    """Lost: an address that people can guess."""
    for path in ("/", "/ui"):
        answer = daemon.get(path, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/ui/")
        assert daemon.get(path).headers["Content-Type"].startswith("text/html")


def test_a_browser_is_told_to_load_nothing_from_elsewhere(daemon: Runner) -> None:
    """Lost: the second lock, when a task's name or output should get into the page as HTML."""
    for path in ("/ui/", *(f"/ui/{name}" for name in FILES)):
        headers = daemon.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert not {"'unsafe-inline'", "'unsafe-eval'", "*"} & set(" ".join(policy.values()).split())
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_the_page_keeps_to_its_own_policy() -> None:
    """Lost: the page itself, blocked by its policy; or the reason to have one."""
    html = (SOURCES / "index.html").read_text()
    assert not re.search(r"\son\w+\s*=|\sstyle\s*=|<style|<script(?![^>]*\ssrc=)|javascript:", html)
    for name in FILES:
        assert name == "index.html" or f'"{name}"' in html, f"{name} is asked for late, if at all"
        text = (SOURCES / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), f"{name} names another place"
        unsafe = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setTimeout\(['\"`]"
        assert not re.search(unsafe, text), f"{name} makes HTML of text"


def test_what_a_browser_has_is_not_sent_again(daemon: Runner) -> None:
    """Lost: a page that is there at once; or, if it were kept too long, one that fits its daemon."""
    for path in ("/ui/", "/ui/main.js"):
        answer = daemon.get(path)
        tag = answer.headers["ETag"]
        assert answer.headers["Cache-Control"] == "no-cache"
        for known in (tag, f'"other", W/{tag}', "*"):
            again = daemon.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        assert daemon.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert daemon.get("/api/v1/capacity").headers["Cache-Control"] == "no-store"


def test_a_code_opens_one_session(guarded: Runner) -> None:
    """Lost: a way for browsers to read; or a code in somebody's history would open another session."""
    code = make_code(guarded)
    first = begin(guarded, code)
    assert first.status_code == 204
    assert guarded.get("/api/v1/capacity", headers=cookie_of(first)).status_code == 200
    again = begin(guarded, code)
    assert again.status_code == 403
    assert "Set-Cookie" not in again.headers
    for wrong in ("", "0" * 32, code[:-1], code + "0", "x" * 65):
        assert begin(guarded, wrong).status_code in (400, 403), wrong


def test_a_code_tells_when_it_ends(guarded: Runner) -> None:
    """Lost: what to tell people who are too late."""
    code = guarded.post("/api/v1/ui/code", headers=GOOD).json()
    ends = time.mktime(time.strptime(code["expires"][:19] + " UTC", "%Y-%m-%dT%H:%M:%S UTC")) - time.timezone
    assert 55 < ends - time.time() <= 61


def test_a_cookie_is_for_the_page_alone(guarded: Runner) -> None:
    """Lost: the session, to a script or to another site's page."""
    answer = begin(guarded, make_code(guarded))
    name, _, rest = answer.headers["Set-Cookie"].partition("=")
    assert name == f"{guarded.PROGRAM}-{guarded.url.rpartition(':')[2]}"
    attributes = rest.split("; ")
    assert re.fullmatch("[0-9a-f]{32}", attributes[0])
    assert set(attributes[1:]) == {"Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"}


def test_with_tls_the_cookie_never_leaves_over_plain_http(start_runner: Starter) -> None:
    """Lost: the session, to whoever listens in."""
    ours = Authority("ui")
    cert, key = ours.give("server")
    config = ROOMY | guarded_config() | {"tls": {"cert": str(cert), "key": str(key)}}
    runner = speak_https(start_runner(config), ours)
    own = runner.url
    answer = begin(runner, make_code(runner), Origin=own)
    assert answer.status_code == 204
    assert "Secure" in answer.headers["Set-Cookie"].split("; ")
    assert runner.get("/api/v1/tasks", headers=cookie_of(answer)).status_code == 200
    plain = own.replace("https:", "http:")
    assert begin(runner, make_code(runner), Origin=plain).status_code == 403


def test_a_session_reads_and_changes_nothing(guarded: Runner) -> None:
    """Lost: the promise that the page only shows: a stolen cookie, or a page that is not ours, could run commands."""
    session = open_session(guarded)
    for path in ("/api/v1/capacity", "/api/v1/tasks", "/metrics"):
        assert guarded.get(path, headers=session).status_code == 200, path
    assert guarded.request("HEAD", "/api/v1/tasks", headers=session).status_code == 200
    with guarded.get("/api/v1/events", headers=session, stream=True) as stream:
        assert stream.status_code == 200
    id = task_id()
    changes = [
        ("POST", f"/api/v1/task/{id}", {"command": ["true"]}),
        ("POST", "/api/v1/task", {"command": ["true"]}),
        ("POST", "/api/v1/tasks", [{"command": ["true"]}]),
        ("DELETE", f"/api/v1/task/{id}", None),
        ("PUT", "/api/v1/drain", {"drain": True}),
        ("POST", "/api/v1/ui/code", None),
    ]
    for method, path, body in changes:
        answer = guarded.request(method, path, json=body, headers=session)
        assert answer.status_code == 401, f"{method} {path}"
    assert guarded.get("/api/v1/tasks", headers=GOOD).json()["tasks"] == []


def test_a_session_that_is_none_opens_nothing(guarded: Runner) -> None:
    """Lost: the lock."""
    good = open_session(guarded)["Cookie"]
    name, _, secret = good.partition("=")
    wrong = (f"{name}=", f"{name}={secret[:-1]}", f"{name}={secret}0", f"{name}={'0' * 32}", f"x{good}", f"x={secret}")
    for cookie in (*wrong, make_code(guarded), ";" * 100, "=" * 100):
        assert guarded.get("/api/v1/capacity", headers={"Cookie": cookie}).status_code == 401, cookie
    for cookie in (f"a=b; {good}", f"{good}; a=b", f"a=b;{good};c"):
        assert guarded.get("/api/v1/capacity", headers={"Cookie": cookie}).status_code == 200, cookie


def test_pages_of_others_get_nowhere(guarded: Runner) -> None:
    """Lost: the session, to any page that the same browser shows."""
    session = open_session(guarded)
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": guarded.url.rpartition(":")[0] + ":1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert guarded.get("/api/v1/tasks", headers=session | headers).status_code == 403, headers
        assert guarded.get("/ui/", headers=headers).status_code == 403, headers
        code = make_code(guarded)
        assert begin(guarded, code, **headers).status_code == 403, headers
        own = {"Origin": guarded.url, "Sec-Fetch-Site": "same-origin"}
        assert begin(guarded, code, **own).status_code == 204, "a refused request has used up the code"
    form = {"Content-Type": "text/plain"}
    assert guarded.post("/ui/session", data='{"code": "x"}', headers=form).status_code == 415
    assert guarded.get("/ui/", headers={"Host": "evil.example"}).status_code == 421


def test_only_the_last_sessions_are_kept(guarded: Runner) -> None:
    """Lost: a bound on what somebody with a token can make the daemon remember."""
    first, second = open_session(guarded), open_session(guarded)
    last = [open_session(guarded) for _ in range(63)][-1]
    assert guarded.get("/api/v1/capacity", headers=first).status_code == 401
    assert guarded.get("/api/v1/capacity", headers=second).status_code == 200
    assert guarded.get("/api/v1/capacity", headers=last).status_code == 200
    oldest = make_code(guarded)
    for _ in range(16):
        make_code(guarded)
    assert begin(guarded, oldest).status_code == 403


def test_another_token_ends_all_sessions(guarded: Runner) -> None:
    """Lost: the reason to change a token that has become known."""
    session, code = open_session(guarded), make_code(guarded)
    guarded.reload()
    assert guarded.get("/api/v1/capacity", headers=session).status_code == 200
    Path(guarded.config["auth"]["token_file"]).write_text(f"{TOKEN}-of-tomorrow\n")
    guarded.reload()
    assert guarded.get("/api/v1/capacity", headers=session).status_code == 401
    assert begin(guarded, code).status_code == 403


def test_a_restart_forgets_all_sessions(start_queue: Starter) -> None:
    """Lost: what the document says of how a session ends."""
    queue: Queue = start_queue({}, guarded_config())
    session = open_session(queue)
    run("systemctl", "restart", queue.unit)
    assert queue.get("/api/v1/capacity", headers=session).status_code == 401


def test_who_may_read_at_the_socket_gets_a_code_for_the_port(start_runner: Starter) -> None:
    """Lost: a browser for those who have no token, but the group; or a way around polkit."""
    with UnixRunner(ROOMY | guarded_config(), mode="0666") as runner:
        with runner.peer() as root, runner.peer(NOBODY) as nobody:
            code = root.request("POST", "/api/v1/ui/code").json()["code"]
            assert nobody.request("POST", "/api/v1/ui/code").status_code == 403
            session = root.request("POST", "/ui/session", json={"code": code})
            assert session.status_code == 204


def test_what_is_no_code_request_makes_none(guarded: Runner) -> None:
    """Lost: the strictness that all other requests are read with."""
    assert guarded.post("/api/v1/ui/code", json={}, headers=GOOD).status_code == 200
    for body in ([], {"x": 1}, "x", 1):
        assert guarded.post("/api/v1/ui/code", json=body, headers=GOOD).status_code == 400, body
    for body in ([], {}, {"code": 1}, {"code": "x", "more": 1}):
        assert guarded.post("/ui/session", json=body).status_code == 400, body
