"""No more sessions than the machine bears: the one that was not used for longest makes room for a new one."""

import time
from urllib.parse import parse_qs

from starlette.datastructures import Headers

__all__ = ["FewSessions"]


class FewSessions:
    """ASGI middleware in front of marimo: before a websocket opens session most + 1, the oldest idle one is closed.

    `managers` are marimo's managers of sessions, one for each lesson.
    """

    def __init__(self, app, *, managers, most):
        self.app, self.managers, self.most = app, managers, most
        self.used = {}

    async def __call__(self, scope, receive, send):
        """Pass a request on; note which session it uses, and make room for a new one."""
        if scope["type"] in ("http", "websocket"):
            name = _session_of(scope)
            if scope["type"] == "websocket":
                self._make_room(name)
            if name is not None:
                self.used[name] = time.monotonic()
        await self.app(scope, receive, send)

    def _make_room(self, coming):
        live = {name: manager for manager in self.managers for name in manager.sessions}
        self.used = {name: when for name, when in self.used.items() if name in live}
        if coming in live:
            return
        for name in sorted(live, key=lambda name: self.used.get(name, 0.0))[: max(0, len(live) - self.most + 1)]:
            live[name].close_session(name)


def _session_of(scope):
    """Name of the session: in the address of a websocket, in a header of a request."""
    if scope["type"] == "websocket":
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_id", [None])[0]
    return Headers(scope=scope).get("marimo-session-id")
