"""The oldest idle session makes room for a new one; what is in use or comes back stays."""

import asyncio

import pytest

pytest.importorskip("starlette")

from lessons._sessions import FewSessions


class Manager:
    """What the middleware knows of marimo's manager."""

    def __init__(self):
        self.sessions = {}

    def close_session(self, name):
        del self.sessions[name]


def serve(managers, most):
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            managers[scope["lesson"]].sessions[scope["query_string"].decode().removeprefix("session_id=")] = None

    return FewSessions(app, managers=managers, most=most)


def open_tab(filtered, name, lesson=0):
    scope = {"type": "websocket", "query_string": f"session_id={name}".encode(), "lesson": lesson}
    asyncio.run(filtered(scope, None, None))


def move_slider(filtered, name):
    scope = {"type": "http", "headers": [(b"marimo-session-id", name.encode())], "lesson": 0}
    asyncio.run(filtered(scope, None, None))


def test_the_session_idle_for_longest_is_closed_over_all_lessons():
    managers = [Manager(), Manager()]
    filtered = serve(managers, most=3)
    for name, lesson in (("a", 0), ("b", 1), ("c", 0)):
        open_tab(filtered, name, lesson)
    move_slider(filtered, "a")
    open_tab(filtered, "d", 1)
    assert (set(managers[0].sessions), set(managers[1].sessions)) == ({"a", "c"}, {"d"})


def test_a_tab_that_is_loaded_again_closes_none():
    managers = [Manager()]
    filtered = serve(managers, most=2)
    for name in ("a", "b", "a", "b"):
        open_tab(filtered, name)
    assert set(managers[0].sessions) == {"a", "b"}
