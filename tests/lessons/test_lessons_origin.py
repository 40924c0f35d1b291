"""The lessons' server answers its own pages alone."""

import asyncio

import pytest

pytest.importorskip("starlette")

from lessons._origin import OwnOrigin

HOST = b"127.0.0.1:2718"


async def answer(scope, receive, send):
    headers = [(b"access-control-allow-origin", b"*"), (b"content-type", b"text/plain")]
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept", "headers": []})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"lesson"})


def sent(kind, **headers):
    """What the server sends for one request."""
    messages = []

    async def send(message):
        messages.append(message)

    async def receive():
        return {"type": f"{kind}.connect" if kind == "websocket" else "http.request", "body": b""}

    raw = [(b"host", HOST), *((key.replace("_", "-").encode(), value) for key, value in headers.items())]
    scope = {"type": kind, "headers": raw, "path": "/", "method": "GET", "query_string": b"", "scheme": "http"}
    asyncio.run(OwnOrigin(answer)(scope, receive, send))
    return messages


FOREIGN = [
    {"origin": b"http://evil.com"},
    {"origin": b"null"},
    {"origin": b"http://127.0.0.1:2719"},
    {"origin": b"http://127.0.0.1:2718.evil.com"},
    {"sec_fetch_site": b"cross-site", "sec_fetch_mode": b"no-cors"},
]
OWN = [
    {},
    {"origin": b"http://127.0.0.1:2718"},
    {"sec_fetch_site": b"same-origin", "sec_fetch_mode": b"cors"},
    {"sec_fetch_site": b"cross-site", "sec_fetch_mode": b"navigate"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_foreign_origins_are_refused(headers):
    assert sent("http", **headers)[0]["status"] == 403
    assert sent("websocket", **headers)[0]["type"] == "websocket.close"


@pytest.mark.parametrize("headers", OWN)
def test_own_pages_are_served_and_to_nobody_else(headers):
    start, body = sent("http", **headers)
    assert (start["status"], body["body"]) == (200, b"lesson")
    assert start["headers"] == [(b"content-type", b"text/plain")]
    assert sent("websocket", **headers)[0]["type"] == "websocket.accept"
