"""The lessons as one local web server: an index, and a page for each lesson."""

import contextlib
import html
import importlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import marimo
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route

from lessons import LESSONS
from lessons._origin import OwnOrigin
from lessons._sessions import FewSessions

__all__ = ["HOST", "TOKEN", "address_of", "lesson_path", "listen", "running", "serve"]

HOST = "127.0.0.1"
# In every address, new for every server: who does not know it, another user of the machine say, gets nothing.
TOKEN = secrets.token_urlsafe(16)

# A kernel each, of some 100 MB once a lesson has run.
MOST_SESSIONS = 8
# A closed tab takes its kernel along; a page that is loaded again within this time finds it.
SECONDS_AFTER_TAB = 5

# What the lessons import takes seconds the first time: before the first reader waits for it, not while.
PRELOAD = ("matplotlib.backends.backend_agg", "nets", "pde", "bridge")

SETTINGS = '[display]\ntheme = "system"\n'

# A formula wider than the window scrolls in its own box, where the page would cut it off at 200 % zoom; on paper, long
# lines of code are folded.
HEAD = """<style>
.markdown > marimo-tex { display: block; overflow-x: auto; overflow-y: hidden }
@media print { .markdown pre, .markdown pre code { white-space: pre-wrap } img, pre { break-inside: avoid } }
</style>"""
INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><title>Lessons</title>
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem }}
li {{ margin: 1rem 0 }} a {{ color: light-dark(#00558a, #7cc4f0); font-weight: 600 }}
</style></head><body><main>
<h1>Residual networks as differential equations</h1>
<p>Each lesson has a statement, a formula, sliders (they take the arrow keys), a way to break it, and an exercise. All
of it runs on this machine.</p>
<ol>{}</ol></main></body></html>"""


def lesson_path(name):
    """Return the path of a lesson's notebook."""
    return Path(__file__).with_name(f"{name}.py")


def listen(port):
    """Open a port of this machine alone, 0 for any free one; ValueError if it is not a port or is in use."""
    if not 0 <= port < 2**16:
        raise ValueError(f"--port must lie in 0..65535, got {port}")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        connection.bind((HOST, port))
        connection.listen()
    except OSError as error:
        connection.close()
        raise ValueError(f"port {port} cannot be used ({error.strerror}): choose another by --port") from None
    return connection


def address_of(connection):
    """Return the address of the index behind a socket of `listen`, with the token."""
    return f"http://{HOST}:{connection.getsockname()[1]}/{TOKEN}"


def serve(connection, *, ready):
    """Serve the lessons until interrupted; ready() is called when pages can be requested."""
    with _own_settings():
        _make_server(ready).run(sockets=[connection])


@contextlib.contextmanager
def running():
    """Serve the lessons on a free port, in a process of its own, and yield the address, inside a `with` block."""
    command = [sys.executable, "-m", "lessons", "--no-browser", "--port", "0"]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        words = server.stdout.readline().split()
        if len(words) < 3:
            raise RuntimeError("the server of the lessons did not start")
        yield words[2]
    finally:
        # What a lesson is at need not be waited for.
        server.kill()
        server.communicate()


class _Server(uvicorn.Server):
    def __init__(self, lessons, ready):
        # A page of elsewhere that names its own host 127.0.0.1 is refused.
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
        filters = [hosts, Middleware(OwnOrigin)]
        managers = [route.app.state.session_manager for route in lessons.routes if isinstance(route, Mount)]
        filters.append(Middleware(FewSessions, managers=managers, most=MOST_SESSIONS))
        routes = [Route(f"/{TOKEN}/", _index), Mount(f"/{TOKEN}", lessons)]
        pages = Starlette(routes=routes, middleware=filters)
        super().__init__(uvicorn.Config(pages, log_level="warning", timeout_graceful_shutdown=1))
        self._lessons, self._ready = lessons, ready

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets=None):
        await super().shutdown(sockets)
        # Of an application under another one nobody ends the sessions, and Python waits for their threads.
        for route in self._lessons.routes:
            if isinstance(route, Mount):
                await route.app.state.session_manager.shutdown()


def _make_server(ready):
    for module in PRELOAD:
        importlib.import_module(module)
    builder = marimo.create_asgi_app(quiet=True, html_head=HEAD, session_ttl=SECONDS_AFTER_TAB)
    for lesson in LESSONS:
        builder = builder.with_app(path=f"/{lesson.name}", root=str(lesson_path(lesson.name)))
    return _Server(builder.build(), ready)


def _index(_request):
    entries = (
        f'<li><a href="{lesson.name}/">{html.escape(lesson.title)}</a> ({lesson.minutes} min)<br>'
        f"{html.escape(lesson.summary)}</li>"
        for lesson in LESSONS
    )
    return HTMLResponse(INDEX.format("".join(entries)))


@contextlib.contextmanager
def _own_settings():
    """Let marimo read our settings, not the reader's: pages follow the colour scheme that the browser asks for."""
    before = os.environ.get("XDG_CONFIG_HOME")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "marimo", "marimo.toml")
        file.parent.mkdir()
        file.write_text(SETTINGS, encoding="utf-8")
        os.environ["XDG_CONFIG_HOME"] = directory
        try:
            yield
        finally:
            if before is None:
                del os.environ["XDG_CONFIG_HOME"]
            else:
                os.environ["XDG_CONFIG_HOME"] = before
