"""The lessons as one local web server: an index, and a page for each lesson."""

import contextlib
import html
import importlib
import os
import socket
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

__all__ = ["HOST", "lesson_path", "listen", "serve"]

HOST = "127.0.0.1"

# What the lessons import takes seconds the first time: before the first reader waits for it, not while.
PRELOAD = ("matplotlib.backends.backend_agg", "nets", "pde", "bridge")

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
    """Return the notebook of a lesson.

    Parameters
    ----------
    name : str
        As in `LESSONS`.

    Returns
    -------
    Path
    """
    return Path(__file__).with_name(f"{name}.py")


def listen(port):
    """Open the server's port, on this machine alone.

    Parameters
    ----------
    port : int
        0: any that is free.

    Returns
    -------
    socket.socket

    Raises
    ------
    ValueError
        If it is no port or in use.
    """
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


def serve(connection, *, ready=None):
    """Serve the lessons until interrupted.

    Parameters
    ----------
    connection : socket.socket
        Of `listen`.
    ready : callable, optional
        Called without arguments when pages can be asked for.
    """
    with _own_settings():
        for module in PRELOAD:
            importlib.import_module(module)
        server = _Server(uvicorn.Config(_application(), log_level="warning", timeout_graceful_shutdown=1))
        server.ready = ready
        server.run(sockets=[connection])


class _Server(uvicorn.Server):
    ready = None

    async def startup(self, sockets=None):
        await super().startup(sockets)
        if self.ready:
            self.ready()


def _application():
    builder = marimo.create_asgi_app(quiet=True)
    for lesson in LESSONS:
        builder = builder.with_app(path=f"/{lesson.name}", root=str(lesson_path(lesson.name)))
    # A page of elsewhere that names its own host 127.0.0.1 is refused.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return Starlette(routes=[Route("/", _index), Mount("/", builder.build())], middleware=[hosts])


def _index(_request):
    entries = (
        f'<li><a href="/{lesson.name}/">{html.escape(lesson.title)}</a> ({lesson.minutes} min)<br>'
        f"{html.escape(lesson.summary)}</li>"
        for lesson in LESSONS
    )
    return HTMLResponse(INDEX.format("".join(entries)))


@contextlib.contextmanager
def _own_settings():
    """Settings of marimo for the lessons, whatever the reader's: the page follows the colour scheme of the browser."""
    before = os.environ.get("XDG_CONFIG_HOME")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "marimo", "marimo.toml")
        file.parent.mkdir()
        file.write_text('[display]\ntheme = "system"\n', encoding="utf-8")
        os.environ["XDG_CONFIG_HOME"] = directory
        try:
            yield
        finally:
            if before is None:
                del os.environ["XDG_CONFIG_HOME"]
            else:
                os.environ["XDG_CONFIG_HOME"] = before
