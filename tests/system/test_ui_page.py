# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page as people see it, in a real Chromium."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from bedlib import ROOMY, SLOWNESS, Queue, Runner, await_that, load, open_folder, run
from browserlib import FIRST_ROW, Browser, origin_of
from test_ui import TOKEN, guarded_config, make_code

# What a daemon does about the page is in test_ui.py; a browser beside neighbours would be no measure of time.
pytestmark = [pytest.mark.plain, pytest.mark.serial]

Starter = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """One tab that nothing has been shown in; whatever a test does, the page must not break its own rules."""
    chromium.begin()
    yield chromium
    assert chromium.complaints() == []
    chromium.driver.get("about:blank")


@pytest.fixture
def pair(start_runner: Starter, start_queue: Starter) -> tuple[Queue, Runner]:
    """A queue, and its only runner."""
    runner: Runner = start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 4096}})
    queue: Queue = start_queue({"w": runner})
    queue.await_leases("w")
    return queue, runner


@pytest.fixture
def runner(start_runner: Starter) -> Runner:
    """A daggyr with two cores."""
    return start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 4096}})


@pytest.fixture
def queue(pair: tuple[Queue, Runner]) -> Queue:
    return pair[0]


@pytest.fixture(params=["runner", "queue"])
def daemon(request: pytest.FixtureRequest) -> Runner:
    """Either of them, for what each has a part of its own in; all else is the page's."""
    return request.getfixturevalue(request.param)


def test_a_task_is_seen_to_wait_run_and_end(daemon: Runner, browser: Browser) -> None:
    """Lost: what the page is for: to see what happens, without loading it again."""
    browser.open(daemon)
    browser.await_text("main", "Running (0)")
    browser.script("window.stays = true")
    gate = open_folder() / "gate"
    wait_for_gate = ["sh", "-c", f"until [ -e {gate} ]; do sleep 0.1; done"]
    first = daemon.submit(wait_for_gate, resources={"cores": 2}, labels={"team": "build"})
    await_that(lambda: "running" in browser.row(first), what="the task to be seen running")
    second = daemon.submit(["false"], resources={"cores": 2})
    await_that(lambda: "waiting" in browser.row(second), what="the task to be seen waiting")
    browser.await_text("main", "Waiting (1)")
    assert "team=build" in browser.row(first)
    browser.screenshot(f"tasks-{daemon.PROGRAM}")
    gate.touch()
    await_that(lambda: "completed" in browser.row(first), what="the task to be seen completed")
    await_that(lambda: "errored: exit-code" in browser.row(second), what="the task to be seen errored")
    browser.await_text("main", "Running (0)")
    assert browser.script("return window.stays"), "the page was loaded again"


def test_a_page_that_is_opened_late_knows_what_has_ended(daemon: Runner, browser: Browser) -> None:
    """Lost: the answer to "what was that just now?"."""
    id = daemon.submit(["sh", "-c", "exit 3"])
    daemon.wait(id)
    browser.open(daemon)
    await_that(lambda: "errored" in browser.row(id) and "exit 3" in browser.row(id), what="the task that has ended")


def test_output_is_followed_as_it_is_written(daemon: Runner, browser: Browser) -> None:
    """Lost: to watch a build in a browser."""
    folder = open_folder()
    script = f"""
        echo first; echo trouble >&2
        until [ -e {folder}/gate ]; do sleep 0.1; done
        echo second; printf 'caf\\303\\251 \\377'
    """
    id = daemon.submit(["sh", "-c", script])
    browser.open(daemon, f"#/task/{id}")
    browser.await_text(".stdout pre", "first")
    browser.await_text(".stderr pre", "trouble")
    assert "second" not in browser.text(".stdout pre")
    browser.screenshot(f"output-{daemon.PROGRAM}")
    (folder / "gate").touch()
    browser.await_text(".stdout pre", "second\ncafé \ufffd")
    browser.await_text(".facts", "completed")
    assert browser.text(".stdout pre").startswith("first\nsecond")


def test_of_a_long_output_the_end_is_shown(runner: Runner, browser: Browser) -> None:
    """Lost: the tab, to a task that writes much."""
    id = runner.submit(["sh", "-c", "seq 400000; echo the end"])
    runner.wait(id)
    browser.open(runner, f"#/task/{id}")
    browser.await_text(".stdout pre", "the end")
    assert len(browser.text(".stdout pre")) < 1024 * 1024
    assert "Only the end is shown" in browser.text(".stdout")


def test_it_is_told_why_a_task_waits(daemon: Runner, browser: Browser) -> None:
    """Lost: the question that is asked most often."""
    busy = daemon.submit(["sleep", "infinity"], resources={"cores": 1})
    await_that(lambda: daemon.attempt(busy)["state"] == "running")
    waiting = daemon.submit(["true"], resources={"cores": 2})
    browser.open(daemon, f"#/task/{waiting}")
    browser.await_text(".facts", "Why it waits")
    browser.screenshot(f"waiting-{daemon.PROGRAM}")
    assert browser.text(".facts ul").strip()
    daemon.delete(f"/api/v1/task/{busy}")
    browser.await_text(".facts", "completed")
    assert "Why it waits" not in browser.text(".facts")


def submit_many(daemon: Runner, n: int) -> None:
    for begin in range(0, n, 1000):
        batch = [{"command": ["true"], "resources": {"cores": 2}, "labels": {"n": str(i)}} for i in range(begin, min(n, begin + 1000))]
        answer = daemon.http.post(f"{daemon.url}/api/v1/tasks", json=batch, timeout=60 * SLOWNESS)
        assert answer.content.count(b'"status":202') == len(batch)


def test_ten_thousand_tasks_are_listed_at_once(start_runner: Starter, browser: Browser) -> None:
    """Lost: the page, just where it is needed."""
    n = load(10000)
    runner = start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 4096}, "queue_max": n + 1})
    runner.submit(["sleep", "infinity"], resources={"cores": 2})
    submit_many(runner, n)

    def first_row_ms() -> float:
        browser.open(runner)
        browser.await_text("main", f"Waiting ({n})")
        took_ms: float = browser.script(f"return {FIRST_ROW}")
        print(f"the first row after {took_ms:.0f} ms")
        return took_ms

    assert any(first_row_ms() < 1000 * SLOWNESS for _ in range(3))
    browser.click("main p a")
    browser.await_text("main", "next page")
    before = browser.text("tbody tr")
    browser.click(".pager a[rel=next]")
    await_that(lambda: browser.text("tbody tr") not in ("", before), what="another page")
    browser.driver.back()
    await_that(lambda: browser.text("tbody tr") == before, what="the page before")
    runner.kill9()  # it would take its time to cancel all of them


def test_tasks_are_found_by_state_and_label(queue: Queue, browser: Browser) -> None:
    """Lost: to find one among many."""
    good = queue.submit(["true"], labels={"team": "a", "n": "1"})
    bad = queue.submit(["false"], labels={"team": "a", "n": "2"})
    other = queue.submit(["false"], labels={"team": "b"})
    for id in (good, bad, other):
        queue.wait(id)
    browser.open(queue)
    state, label, _ = browser.find(".filter select, .filter input")
    state.send_keys("errored")
    label.send_keys("team=a", Keys.ENTER)
    await_that(lambda: browser.row(bad) and not browser.row(good) and not browser.row(other), what="only that one")
    label = browser.find(".filter input")[0]
    label.clear()
    label.send_keys("team=a n=1", Keys.ENTER)
    await_that(lambda: not browser.row(bad), what="none of them")
    browser.find(".filter input")[1].send_keys(other, Keys.ENTER)
    browser.await_text("h1", other)


def test_a_connection_that_is_cut_is_told_and_comes_back(start_runner: Starter, browser: Browser) -> None:
    """Lost: trust in what the page shows."""
    runner = start_runner(ROOMY)
    browser.open(runner)
    run("systemctl", "stop", runner.unit)
    browser.await_text("#connection", "connection lost")
    browser.screenshot("lost")
    run("systemctl", "start", runner.unit)
    browser.await_text("#connection", "live again", timeout=40)
    id = runner.submit(["sleep", "infinity"])
    await_that(lambda: "running" in browser.row(id), what="the task to be seen running")


def test_output_goes_on_where_it_was_when_the_connection_comes_back(pair: tuple[Queue, Runner], browser: Browser) -> None:
    """Lost: lines of a build, to a queue that was restarted; or each of them twice."""
    queue, _ = pair
    folder = open_folder()
    id = queue.submit(["sh", "-c", f"echo one; until [ -e {folder}/gate ]; do sleep 0.1; done; echo two"])
    browser.open(queue, f"#/task/{id}")
    browser.await_text(".stdout pre", "one")
    port = int(queue.url.rpartition(":")[2])
    run("systemctl", "restart", queue.unit)
    browser.await_text("#connection", "live again", timeout=40)
    assert int(queue.url.rpartition(":")[2]) == port
    (folder / "gate").touch()
    browser.await_text(".stdout pre", "two")
    assert browser.text(".stdout pre").split() == ["one", "two"]


def test_nothing_is_asked_at_intervals_and_nothing_elsewhere(daemon: Runner, browser: Browser) -> None:
    """Lost: a page that may stay open all day; or the promise that it is alone with its daemon."""
    id = daemon.submit(["echo", "hi"])
    daemon.wait(id)
    browser.open(daemon)
    for place in (f"#/task/{id}", "#/capacity", "#/workers", "#/events", "#/tasks"):
        if place != "#/workers" or daemon.PROGRAM == "daggyd":
            browser.go(place)
            await_that(lambda: browser.text("h1"), what=f"{place}")
    await_that(lambda: browser.row(id), what="the list")
    for request in browser.requests():
        assert origin_of(request["url"]) == daemon.url
        assert request["method"] == "GET"
    await_that(lambda: browser.requests() == [], what="the last request")
    quiet_until = time.monotonic() + 4
    await_that(lambda: time.monotonic() > quiet_until)
    asked = [request["url"] for request in browser.requests()]
    assert len(asked) <= 1, asked  # a queue hears of its workers now and then, and tells


ATTACK = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"


def test_what_a_task_says_is_never_taken_for_html(queue: Queue, browser: Browser) -> None:
    """Lost: the session of whoever looks at it, to any task."""
    id = queue.submit(["echo", ATTACK], labels={"evil": ATTACK})
    queue.wait(id)
    browser.open(queue)
    browser.await_text("main", ATTACK)
    browser.go(f"#/task/{id}")
    browser.await_text(".stdout pre", ATTACK)
    browser.await_text(".facts", ATTACK)
    browser.go(f"#/tasks?state=all&label={'%3Cimg src=x onerror=alert(1)%3E=1'}")
    browser.await_text("main", "last page")
    browser.go("#/task/%3Cimg%20src=x%3E")
    browser.await_text("main", "<img src=x>")
    browser.go("#/events")
    browser.await_text("main", id)
    assert browser.script("return document.title") != "broken"
    assert browser.script("return document.querySelectorAll('img, main script').length") == 0


def test_the_policy_holds_even_if_the_page_did_not(runner: Runner, browser: Browser) -> None:
    """Lost: the second lock behind the first one."""
    browser.open(runner)
    outcome = browser.script(
        "try { document.querySelector('main').innerHTML = arguments[0]; return 'taken' }"
        " catch (error) { return error.name }",
        ATTACK,
    )
    assert outcome == "TypeError"
    assert browser.script("return document.title") != "broken"
    complaints = browser.complaints()
    assert complaints and all("TrustedHTML" in it or "Content Security Policy" in it for it in complaints)


def test_a_session_opens_the_page_where_a_token_is_asked_for(start_runner: Starter, browser: Browser) -> None:
    """Lost: the page, on every host that is worth a token; or the token, in somebody's history."""
    runner = start_runner(ROOMY | guarded_config())
    browser.driver.get(f"{runner.url}/ui/")
    browser.await_text("main", "daggyctl ui")
    browser.screenshot("no-session")
    browser.open(runner, f"#code={make_code(runner)}")
    browser.await_text("main", "Running (0)")
    assert "code" not in browser.driver.current_url
    assert browser.script("return document.cookie") == "", "scripts see the session"
    browser.driver.refresh()
    browser.await_text("main", "Running (0)")
    answer = browser.driver.execute_async_script(
        "const done = arguments[0];"
        "fetch('/api/v1/drain', {method: 'PUT', headers: {'Content-Type': 'application/json'}, body: '{\"drain\": true}'})"
        ".then((answer) => done(answer.status))"
    )
    assert answer == 401
    assert TOKEN not in browser.driver.page_source
    browser.complaints()


def test_a_session_that_is_over_is_told(start_runner: Starter, browser: Browser) -> None:
    """Lost: the difference between "nothing runs" and "you may not know"."""
    runner = start_runner(ROOMY | guarded_config())
    browser.open(runner, f"#code={make_code(runner)}")
    browser.await_text("main", "Running (0)")
    run("systemctl", "restart", runner.unit)
    browser.await_text("main", "A session is needed", timeout=40)
    browser.await_text("#connection", "no session")


def test_capacity_shows_what_is_in_use_and_was(daemon: Runner, browser: Browser) -> None:
    """Lost: how full a host is, and has been."""
    id = daemon.submit(["sleep", "infinity"], resources={"cores": 1, "memory_mb": 100})
    await_that(lambda: daemon.attempt(id)["state"] == "running")
    browser.open(daemon, "#/capacity")
    browser.await_text(".now", "1 of 2 in use")
    browser.await_text(".now", "1 running, 0 waiting")
    browser.await_text(".charts", "in use: 1 now, 1 at most")
    daemon.delete(f"/api/v1/task/{id}?wait=30")
    browser.await_text(".now", "0 of 2 in use")
    browser.await_text(".now", "0 running, 0 waiting")
    browser.screenshot(f"capacity-{daemon.PROGRAM}")


def test_workers_show_their_state_and_load(pair: tuple[Queue, Runner], browser: Browser) -> None:
    """Lost: which runner is the matter, among many."""
    queue, runner = pair
    id = queue.submit(["sleep", "infinity"], resources={"cores": 1, "memory_mb": 1024})
    await_that(lambda: queue.attempt(id)["state"] == "running")
    browser.open(queue, "#/workers")
    for text in ("w", "alive", "this queue", "1 of 2 in use", "1024 of 4096 in use", runner.url):
        browser.await_text("table", text)
    browser.screenshot("workers")
    queue.put("/api/v1/workers/w", json={"disabled": True})
    browser.await_text("table", "disabled")


def test_events_are_shown_as_they_come(queue: Queue, browser: Browser) -> None:
    """Lost: the order in which things happened."""
    browser.open(queue, "#/events")
    id = queue.submit(["true"])
    browser.await_text(".events", f"{id} ✓ completed")
    browser.await_text(".events", f"{id} ▶ running")
    browser.await_text(".events", f"{id} ◌ waiting")
    assert browser.text(".events").index("completed") < browser.text(".events").index("waiting")


def test_all_of_it_works_by_keyboard(runner: Runner, browser: Browser) -> None:
    """Lost: the page, for those who use no mouse."""
    id = runner.submit(["echo", "hi"])
    runner.wait(id)
    browser.open(runner)
    await_that(lambda: browser.row(id), what="the list")

    def focus() -> str:
        return browser.script("return document.activeElement.innerText || document.activeElement.name || ''")

    def tab_to(wanted: str) -> None:
        for _ in range(40):
            browser.driver.switch_to.active_element.send_keys(Keys.TAB)
            if focus() == wanted:
                return
        raise AssertionError(f"the Tab key does not lead to {wanted}")

    browser.script("document.activeElement.blur()")
    tab_to("To the content")
    tab_to("Events")
    outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is not seen"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.await_text("h1", "Events")
    await_that(lambda: focus() == "Events", what="the focus on the heading")
    browser.driver.back()
    await_that(lambda: browser.row(id), what="the list again")
    tab_to(id)
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.await_text("h1", id)


def test_it_fits_a_phone_and_the_dark(queue: Queue, browser: Browser) -> None:
    """Lost: a look at it from the train, or at night."""
    id = queue.submit(["sh", "-c", "echo " + "x" * 300], labels={"team": "build"})
    queue.wait(id)
    with browser.phone():
        browser.open(queue)
        await_that(lambda: browser.row(id), what="the list")
        for place in ("#/tasks", f"#/task/{id}", "#/capacity", "#/events"):
            browser.go(place)
            await_that(lambda: browser.text("h1"), what=place)
            wide = browser.script("return document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{place} is {wide} px too wide"
        browser.go("#/tasks")
        await_that(lambda: browser.row(id), what="the list")
        browser.screenshot(f"phone-{queue.PROGRAM}")
    light = browser.script("return getComputedStyle(document.body).backgroundColor")
    with browser.media(prefers_color_scheme="dark"):
        dark = browser.script("return getComputedStyle(document.body).backgroundColor")
        browser.screenshot(f"dark-{queue.PROGRAM}")
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 23, 27)")
