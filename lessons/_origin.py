"""Filters in front of the server: pages of other sites get nothing, and no request names a file of its own choice."""

from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

__all__ = ["OwnFiles", "OwnOrigin"]


class OwnOrigin:
    """ASGI middleware: requests and websockets that come from a page of another origin get status 403.

    A browser states the origin of the page that makes a request, and a site cannot forge it. What no page makes – an
    address typed, a script of the reader's – states none and passes.
    """

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif not _is_ours(Headers(scope=scope)):
            await _refuse(scope, receive, send, 403, "Foreign origin")
        else:
            await self.app(scope, receive, _without_cors(send))


class OwnFiles:
    """ASGI middleware: a request that names a notebook which is not one of `files` gets status 404 (a websocket 403).

    marimo would search for it, and fail in the middle of a handshake.
    """

    def __init__(self, app, *, files):
        self.app, self.files = app, frozenset(files)

    async def __call__(self, scope, receive, send):
        """Pass a request on, or refuse it."""
        if scope["type"] in ("http", "websocket"):
            named = parse_qs(scope["query_string"].decode("latin-1")).get("file", [])
            if not self.files.issuperset(named):
                await _refuse(scope, receive, send, 404, "Not Found")
                return
        await self.app(scope, receive, send)


async def _refuse(scope, receive, send, status, words):
    """Respond in place of the application; a server turns a websocket that is closed before it opens into a 403."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": words})
    else:
        await PlainTextResponse(words, status_code=status)(scope, receive, send)


def _is_ours(headers):
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host", "")
    # An image or a script of ours in a page of others; a link that the reader follows is a navigation.
    return headers.get("sec-fetch-site") != "cross-site" or headers.get("sec-fetch-mode") == "navigate"


def _without_cors(send):
    async def send_without(message):
        if message["type"] == "http.response.start":
            kept = [(key, value) for key, value in message["headers"] if not key.lower().startswith(b"access-control-")]
            message = message | {"headers": kept}
        await send(message)

    return send_without
