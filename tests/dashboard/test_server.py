from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from dashboard.server import SETTINGS, Guard, build, new_token

PAGE = b"<!DOCTYPE html><html><head><title>x</title></head></html>"


async def pages(scope: MutableMapping[str, Any], receive: object, send: Any) -> None:
    """What is guarded: a page in two parts."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    headers = [(b"content-type", b"text/html"), (b"content-length", str(len(PAGE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE[:30], "more_body": True})
    await send({"type": "http.response.body", "body": PAGE[30:]})


def ask(
    guard: Guard, host: str, path: str = "/", query: str = "", kind: str = "http", cookie: str = "", origin: str = ""
) -> Any:
    """The messages a request is answered with."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {}

    pairs = {"host": host, "cookie": cookie, "origin": origin}
    headers = [(name.encode(), value.encode("latin-1")) for name, value in pairs.items() if value or name == "host"]
    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": headers}
    asyncio.run(guard(scope, receive, send))
    return sent


def status(sent: list[MutableMapping[str, Any]]) -> int:
    return int(sent[0].get("status", 0))


def header(sent: list[MutableMapping[str, Any]], name: str) -> str:
    return str(dict(sent[0]["headers"]).get(name.encode(), b"").decode())


def local(token: str | None = None, host: str = "127.0.0.1") -> Guard:
    return Guard(pages, host, token, "taolu_1")


@pytest.mark.parametrize("host", ["127.0.0.1:8501", "localhost:8501", "localhost", "[::1]:8501", "LOCALHOST.:1"])
def test_this_machines_own_names_are_served(host: str) -> None:
    assert status(ask(local(), host)) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8501", "", "localhost.evil.example", "192.168.1.7", "[", "127.0.0.1@evil.ex"]
)
def test_a_foreign_host_is_refused_in_pages_and_in_sockets(host: str) -> None:
    sent = ask(local(), host)
    assert status(sent) == 403
    assert b"is no name of this dashboard" in sent[1]["body"]
    assert [message["type"] for message in ask(local(), host, kind="websocket")] == ["websocket.close"]


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:3000", "null", "http://[", "https:evil"])
def test_a_page_of_another_site_is_refused(origin: str) -> None:
    assert status(ask(local(), "localhost:8501", origin=origin)) == 403
    closed = ask(local(), "localhost:8501", origin=origin, kind="websocket")
    assert [message["type"] for message in closed] == ["websocket.close"]
    assert status(ask(local(), "localhost:8501", origin="http://localhost:8501")) == 200


def test_a_page_keeps_its_text_and_tells_the_browser_to_ask_nobody_else() -> None:
    sent = ask(local(), "localhost")
    body = sent[1]["body"]
    assert body.replace(b"<script>window.__streamlit = {BACKEND_BASE_URL: location.origin}</script>", b"") == PAGE
    assert header(sent, "content-length") == str(len(body))
    assert "default-src 'self'" in header(sent, "content-security-policy")
    assert len(sent) == 2


def test_pages_that_others_can_reach_ask_for_a_token() -> None:
    assert new_token("127.0.0.1") is None
    token = new_token("0.0.0.0")
    assert token is not None
    assert len(token) > 20
    guard = local(token, "0.0.0.0")
    assert status(ask(guard, "192.168.1.7:8501")) == 403
    assert status(ask(guard, "192.168.1.7:8501", query="token=wrong")) == 403
    assert status(ask(guard, "192.168.1.7:8501", cookie="taolu_1=wrong; ; =")) == 403
    assert status(ask(guard, "evil.example", cookie=f"taolu_1={token}")) == 403
    closed = ask(guard, "192.168.1.7:8501", query=f"token={token}", kind="websocket")
    assert [message["type"] for message in closed] == ["websocket.close"]


def test_the_token_becomes_a_cookie_and_leaves_the_address() -> None:
    guard = local("k1", "0.0.0.0")
    sent = ask(guard, "10.0.0.1", "//evil.example/run", "run=a%20b&token=k1&runs=x&runs=y&tab=")
    assert status(sent) == 303
    assert header(sent, "location") == "/evil.example/run?run=a+b&runs=x&runs=y&tab="
    assert header(sent, "set-cookie").startswith("taolu_1=k1; Path=/;")
    assert "HttpOnly; SameSite=Lax" in header(sent, "set-cookie")
    for kind in ("http", "websocket"):
        first = ask(guard, "10.0.0.1", kind=kind, cookie="a=b; taolu_1=k1")[0]
        assert first["type"] in ("http.response.start", "websocket.accept")


def test_what_is_neither_a_page_nor_a_socket_passes() -> None:
    assert status(ask(local("k"), "evil.example", kind="lifespan")) == 200


def test_streamlit_knows_every_setting() -> None:
    from streamlit import config

    known = config.get_config_options()
    assert [name for name in SETTINGS if name not in known] == []
    assert SETTINGS["browser.gatherUsageStats"] is False
    assert SETTINGS["client.showErrorDetails"] == "none"
    assert SETTINGS["server.enableXsrfProtection"] is True
    assert build("127.0.0.1", 1, None).script_path.name == "app.py"
