"""The server of the pages: Streamlit's settings, and a guard before it that reads every request's Host and token."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from streamlit.starlette import App

SETTINGS = {
    "server.headless": True,
    "server.fileWatcherType": "none",
    "server.maxUploadSize": 1,
    "server.enableXsrfProtection": True,
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "client.disableDataExport": True,  # Streamlit's CSV does not guard cells that a spreadsheet takes for formulas
    "global.disableWidgetStateDuplicationWarning": True,  # values come from the address, beside a widget's default
    "theme.light.primaryColor": "#33658A",
    "theme.dark.primaryColor": "#6FA8D6",
    "theme.light.sidebar.backgroundColor": "#F5F6F8",
    "theme.headingFontSizes": ["1.9rem", "1.5rem", "1.15rem"],
    "theme.headingFontWeights": [600, 600, 600],
    "theme.codeFontSize": "0.8rem",
    "theme.baseRadius": "8px",
    "theme.paddingTop": "3rem",
}
_FIELD = "token"
_YEAR = 31_536_000
_HEADERS = {  # the browser itself then asks no other machine for anything, whatever a page holds
    "content-security-policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
# Streamlit (1.67) looks for its server below the path of the page first, which a browser logs as errors.
_ORIGIN = b"<script>window.__streamlit = {BACKEND_BASE_URL: location.origin}</script>"
_ZIP = b"accept-encoding"


def is_local(host: str) -> bool:
    """Whether only this machine can reach the address.

    >>> is_local("127.0.0.1"), is_local("localhost"), is_local("0.0.0.0")
    (True, True, False)
    """
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def new_token(host: str) -> str | None:
    """What a visitor must bring to pages that other machines can reach; None for this machine's own."""
    return None if is_local(host) else secrets.token_urlsafe(16)


def build(host: str, port: int, token: str | None) -> App:
    """The pages behind their guard."""
    from starlette.middleware import Middleware
    from streamlit.starlette import App

    guard = Middleware(Guard, host=host, token=token, cookie=f"taolu_{port}")  # cookies do not tell ports apart
    return App(Path(__file__).with_name("app.py"), middleware=[guard])


class Guard:
    """Refuses requests under a foreign name, from pages of other sites and, where a token is asked for, without it.

    A page of another site can make a browser ask for this server under that site's name (DNS rebinding) and would read
    the answer. Streamlit (1.67) lets in pages of any port of this machine, and before it refuses others it asks a
    service outside for this machine's address; so nothing of it is left to Streamlit.

    An address `?token=` sets a cookie and leads on to the same address without it.

    Args:
        app: what is guarded.
        host: the address that is listened on.
        token: None asks for none.
        cookie: the cookie's name.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None, cookie: str) -> None:
        self._app, self._host, self._token, self._cookie = app, host.lower(), token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, passed on or answered."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if not self._is_known(host):
            await _refuse(scope, send, f"Host '{host[:100]}' is no name of this dashboard; open it by its address.")
        elif headers.get("origin", f"http://{host}").partition("://")[2] != host:
            await _refuse(scope, send, "A page of another site may not ask for this one.")
        elif self._token is not None and not self._has_token(headers.get("cookie", "")):
            if scope["type"] == "http" and self._asked_with_token(scope):
                await _lead_on(scope, send, f"{self._cookie}={self._token}")
            else:
                await _refuse(scope, send, "Open the address that `taolu dashboard` printed: it ends in ?token=...")
        else:
            plain = [
                pair for pair in scope["headers"] if "text/html" not in headers.get("accept", "") or pair[0] != _ZIP
            ]
            await self._app({**scope, "headers": plain}, receive, _with_additions(send))

    def _is_known(self, header: str) -> bool:
        try:
            name = (urlsplit(f"//{header}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if is_local(name) or name == self._host:
            return True
        own = (socket.gethostname().lower(), socket.getfqdn().lower())
        return not is_local(self._host) and (name in own or _address(name) is not None)

    def _has_token(self, cookies: str) -> bool:
        try:
            found = SimpleCookie(cookies).get(self._cookie)
        except CookieError:
            return False
        return found is not None and hmac.compare_digest(found.value.encode(), str(self._token).encode())

    def _asked_with_token(self, scope: Scope) -> bool:
        asked = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get(_FIELD, "")
        return hmac.compare_digest(asked.encode(), str(self._token).encode())


async def _lead_on(scope: Scope, send: Send, cookie: str) -> None:
    fields = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = urlencode([field for field in fields if field[0] != _FIELD])
    path = "/" + scope["path"].lstrip("/")  # two slashes would lead to another host
    headers = {
        "location": f"{path}?{query}" if query else path,
        "set-cookie": f"{cookie}; Path=/; Max-Age={_YEAR}; HttpOnly; SameSite=Lax",
    }
    await _answer(send, 303, headers, "")


async def _refuse(scope: Scope, send: Send, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why[:100]})
    else:
        await _answer(send, 403, {"content-type": "text/plain; charset=utf-8"}, why + "\n")


async def _answer(send: Send, status: int, headers: dict[str, str], text: str) -> None:
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in {**_HEADERS, **headers}.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": text.encode("utf-8", "replace")})


def _with_additions(send: Send) -> Send:
    """Sends on, with our headers, and with our line in the page itself."""
    held: list[MutableMapping[str, Any]] = []  # a page: its start, then its parts

    async def send_with(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message["headers"] = [*message.get("headers", []), *extra]
            if message["status"] == 200 and dict(message["headers"]).get(b"content-type", b"").startswith(b"text/html"):
                held.append(message)
                return
        elif held and message["type"] == "http.response.body":
            held.append(message)
            if message.get("more_body"):
                return
            start, *parts = held
            body = b"".join(part.get("body", b"") for part in parts).replace(b"<head>", b"<head>" + _ORIGIN, 1)
            kept = [pair for pair in start["headers"] if pair[0] != b"content-length"]
            await send({**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
            message = {"type": "http.response.body", "body": body}
        await send(message)

    return send_with


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
