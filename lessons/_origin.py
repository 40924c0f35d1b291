"""Pages of other sites may neither start lessons nor read what they answer: a filter in front of the server."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

__all__ = ["OwnOrigin"]


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
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": "foreign origin"})
            else:
                await PlainTextResponse("Foreign origin", status_code=403)(scope, receive, send)
        else:
            await self.app(scope, receive, _without_cors(send))


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
