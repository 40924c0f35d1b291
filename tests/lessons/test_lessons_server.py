"""The lessons' server with small notebooks in place of the lessons: handshakes, sessions, and what comes first."""

import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("marimo")

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from lessons import Lesson, _server
from lessons._chromium import chromium, find_chromium
from lessons._index import waiting_page
from lessons._preparation import Preparation, Step

NOTEBOOK = """import marimo

app = marimo.App()

with app.setup:
    import marimo as mo


@app.cell
def _():
    mo.md("small")
    return
"""
PATIENCE = 60
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def settings():
    """marimo finds its settings once and for all."""
    with _server._own_settings():
        yield


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """A function of a `Preparation` that starts a server of two notebooks and returns (address, its managers)."""
    lessons = tuple(Lesson(name, name, "Small.", 1, "1") for name in ("first", "second"))
    for lesson in lessons:
        (tmp_path / f"{lesson.name}.py").write_text(NOTEBOOK, encoding="utf-8")
    monkeypatch.setattr(_server, "LESSONS", lessons)
    monkeypatch.setattr(_server, "lesson_path", lambda name: tmp_path / f"{name}.py")
    monkeypatch.setattr(_server, "MOST_SESSIONS", 2)
    monkeypatch.setattr(_server, "SECONDS_AFTER_TAB", 1)
    with contextlib.ExitStack() as stack:

        def start(preparation=None):
            connection, ready = _server.listen(0), threading.Event()
            server = _server._make_server(ready.set, preparation or Preparation(steps=()))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [connection]})
            thread.start()

            def end():
                server.should_exit = True
                thread.join(PATIENCE)
                connection.close()

            stack.callback(end)
            assert ready.wait(PATIENCE)
            return _server.address_of(connection), server.managers

        yield start


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def socket_of(address, lesson, session, **query):
    words = "".join(f"&{key}={value}" for key, value in query.items())
    return connect(f"{address.replace('http', 'ws', 1)}/{lesson}/ws?session_id={session}{words}")


def read(address):
    with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
        return answer.read().decode()


@pytest.mark.parametrize(
    "file", ["x", "/etc/passwd", "__new__", "..%2F..%2Fx", "%00", "first.py", "a&file=b", 2000 * "a"]
)
@pytest.mark.parametrize("kind", ["ws", "ws_sync"])
def test_a_made_up_file_is_refused_without_a_word(serve, capfd, file, kind):
    address, managers = serve()
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{address.replace('http', 'ws', 1)}/first/{kind}?session_id=s_1&file={file}")
    assert refused.value.response.status_code == 403
    for path in ("", "sse"):
        with pytest.raises(urllib.error.HTTPError) as missing:
            read(f"{address}/first/{path}?session_id=s_1&file={file}")
        missing.value.close()
        assert missing.value.code == 404
    assert not any(manager.sessions for manager in managers)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("query", ["", "session_id=", "session_id=s_1&kiosk=true", "session_id=%00&x=%ff"])
def test_odd_handshakes_leave_no_traceback(serve, capfd, query):
    address, _ = serve()
    with contextlib.suppress(InvalidStatus), connect(f"{address.replace('http', 'ws', 1)}/first/ws?{query}") as socket:
        socket.close()
    assert read(f"{address}/")
    assert "Traceback" not in capfd.readouterr().err


def test_the_lesson_s_own_file_is_served(serve):
    address, managers = serve()
    own = {manager.workspace.get_unique_file_key() for manager in managers}
    (first,) = (name for name in own if name.endswith("first.py"))
    with socket_of(address, "first", "s_1", file=first) as socket:
        assert json.loads(socket.recv(PATIENCE))["op"]
        wait_until(lambda: sum(len(manager.sessions) for manager in managers) == 1)


def test_kernels_end_with_their_tab_and_the_oldest_idle_one_makes_room(serve):
    address, managers = serve()
    before = set(threading.enumerate())

    def names():
        return {name for manager in managers for name in manager.sessions}

    def kernels():
        return [each for each in threading.enumerate() if each not in before and "launch_kernel" in each.name]

    with socket_of(address, "first", "s_1"), socket_of(address, "second", "s_2") as second:
        wait_until(lambda: names() == {"s_1", "s_2"} and len(kernels()) == 2)
        with socket_of(address, "first", "s_3"):
            wait_until(lambda: names() == {"s_2", "s_3"} and len(kernels()) == 2)
            second.close()
            wait_until(lambda: names() == {"s_3"} and len(kernels()) == 1)
    wait_until(lambda: not names() and not kernels())


def test_preparation_reports_the_step_it_is_at_and_outlives_a_failure():
    gates = [threading.Event() for _ in range(3)]

    def fail():
        gates[1].wait(PATIENCE)
        raise ImportError("an installation that is damaged")

    steps = [
        Step("one", lambda: gates[0].wait(PATIENCE)),
        Step("two", fail),
        Step("three", lambda: gates[2].wait(PATIENCE), needed=False),
    ]
    preparation = Preparation(steps)
    preparation.start()
    for place, text in enumerate(("one", "two", "three")):
        wait_until(lambda place=place: preparation.status()["step"] == place + 1)
        # Nobody waits for the third.
        expected = {"ready": place == 2, "done": False, "n_steps": 3, "step": place + 1, "text": text}
        assert preparation.status() == expected
        gates[place].set()
    wait_until(lambda: preparation.status()["done"])
    assert preparation.ready


LOADED = """
import sys
from lessons import _preparation

_preparation._load()
before = {name.partition(".")[0] for name in sys.modules}
from lessons import _planar

_planar.N_STEPS = 1
_planar.train()
print(*{name.partition(".")[0] for name in sys.modules} - before)
"""


@pytest.mark.slow
def test_training_and_the_first_page_import_nothing_at_once():
    pytest.importorskip("torch")
    # What marimo imports, if it is installed, for the first page.
    from marimo._output.formatters.formatters import THIRD_PARTY_FACTORIES

    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sympy" in THIRD_PARTY_FACTORIES
    assert not set(done.stdout.split()) & set(THIRD_PARTY_FACTORIES)


def test_a_lesson_opened_too_early_shows_progress_and_then_itself(serve):
    try:
        find_chromium()
    except ValueError as missing:
        pytest.skip(str(missing))
    gate = threading.Event()
    preparation = Preparation([Step("loading everything", lambda: gate.wait(PATIENCE))])
    address, _ = serve(preparation)
    preparation.start()
    says = "document.querySelector('[role=status]')?.textContent.includes('step 1 of 1: loading everything')"
    with chromium() as page:
        page.open(f"{address}/")
        page.wait_for(f"{says} && !document.getElementById('progress').hidden")
        assert page.evaluate("document.querySelectorAll('li a').length") == 6
        page.open(f"{address}/first/")
        page.wait_for(says)
        assert page.evaluate("document.querySelector('h1').textContent") == "first"
        gate.set()
        page.wait_for("[...document.querySelectorAll('.marimo-cell')].some(e => e.textContent.includes('small'))")
        page.open(f"{address}/")
        page.wait_for("document.getElementById('progress').hidden")
        assert page.complaints == []


def test_a_title_is_text():
    assert "<b>" not in waiting_page("<b>", "/progress")
