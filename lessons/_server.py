"""The lessons as one local web server: an index, and a page for each lesson."""

import contextlib
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
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Match, Mount, Route

from lessons import LESSONS
from lessons._index import index_page, waiting_page
from lessons._origin import OwnFiles, OwnOrigin
from lessons._preparation import Preparation
from lessons._sessions import FewSessions

__all__ = ["HOST", "TOKEN", "address_of", "lesson_path", "listen", "running", "serve"]

HOST = "127.0.0.1"
# Part of every address, new for every server: without it, another user of the machine gets nothing.
TOKEN = secrets.token_urlsafe(16)

# A kernel each, of some 100 MB once a lesson has run.
MOST_SESSIONS = 8
# A closed tab takes its kernel along; a page that is loaded again within this time finds it.
SECONDS_AFTER_TAB = 5

SETTINGS = '[display]\ntheme = "system"\n'

# A formula wider than the window scrolls in its own box, where the page would cut it off at 200 % zoom; on paper, long
# lines of code are folded.
HEAD = """<style>
.markdown > marimo-tex { display: block; overflow-x: auto; overflow-y: hidden }
@media print { .markdown pre, .markdown pre code { white-space: pre-wrap } img, pre { break-inside: avoid } }
</style>"""


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
    """Serve the lessons until interrupted, and end the process; ready() is called when pages can be requested.

    Imports and compiling, which take seconds and longer the first time, run behind them: `Preparation`.
    """
    preparation, status = Preparation(), 0
    with _own_settings():
        server = _make_server(ready, preparation)
        preparation.start()
        try:
            server.run(sockets=[connection])
        except KeyboardInterrupt:
            status = 130
    # Threads of pages or of the preparation may be in compiled code, which aborts when Python ends around it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


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
        # A lesson need not finish its computation.
        server.kill()
        server.communicate()


class _Server(uvicorn.Server):
    def __init__(self, lessons, ready, preparation):
        self.managers = [route.app.state.session_manager for route in lessons.routes if isinstance(route, Mount)]
        # A page of elsewhere that names its own host 127.0.0.1 is refused.
        filters = [
            Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]),
            Middleware(OwnOrigin),
            Middleware(OwnFiles, files=[manager.workspace.get_unique_file_key() for manager in self.managers]),
            Middleware(FewSessions, managers=self.managers, most=MOST_SESSIONS),
        ]
        pages = Starlette(routes=_routes(lessons, preparation), middleware=filters)
        super().__init__(uvicorn.Config(pages, log_level="warning", timeout_graceful_shutdown=1))
        self._ready = ready

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets=None):
        await super().shutdown(sockets)
        # The sessions of a mounted application are not ended otherwise, and Python would wait for their threads.
        for manager in self.managers:
            await manager.shutdown()


def _make_server(ready, preparation):
    builder = marimo.create_asgi_app(quiet=True, html_head=HEAD, session_ttl=SECONDS_AFTER_TAB)
    for lesson in LESSONS:
        builder = builder.with_app(path=f"/{lesson.name}", root=str(lesson_path(lesson.name)))
    return _Server(builder.build(), ready, preparation)


def _routes(lessons, preparation):
    """The index, how far the preparation is, and the lessons, which wait for it."""
    progress = f"/{TOKEN}/progress"

    async def index(_request):
        return HTMLResponse(index_page("{}/", progress=progress))

    async def status(_request):
        return JSONResponse(preparation.status(), headers={"cache-control": "no-store"})

    def waiting(title):
        async def page(_request):
            return HTMLResponse(waiting_page(title, progress), headers={"cache-control": "no-store"})

        return page

    class Unprepared(Route):
        """A lesson's page as long as the lesson cannot be shown."""

        def matches(self, scope):
            return (Match.NONE, {}) if preparation.ready else super().matches(scope)

    return [
        Route(f"/{TOKEN}/", index),
        Route(progress, status),
        *(Unprepared(f"/{TOKEN}/{lesson.name}/", waiting(lesson.title)) for lesson in LESSONS),
        Mount(f"/{TOKEN}", lessons),
    ]


@contextlib.contextmanager
def _own_settings():
    """Let marimo read our settings, not the reader's: pages follow the colour scheme of the browser."""
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
