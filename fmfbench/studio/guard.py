"""Who may ask: nobody without the token, from another host's name, or from another site's page.

The server listens on this machine only, but every page that is open in the browser can send requests to it, and a
name that an attacker owns can be pointed at 127.0.0.1 (DNS rebinding). Three checks stand before every path:

- *Host* must be a name of this machine: an address, `localhost`, or the name that was asked for;
- *Origin*, where the browser tells one, must be the page's own, and so must `Sec-Fetch-Site`;
- the *token*, in the address (`?token=`) or in the cookie that the first visit sets. The cookie's name carries the
  port, because cookies do not tell ports apart.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "new_token"]

_SAFE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def new_token() -> str:
    """A secret that nobody guesses, of characters that stand in an address as they are."""
    return secrets.token_urlsafe(24)


class Guard:
    """Answers 403 to whoever may not ask, and adds the headers that keep foreign content out of the page.

    Args:
        app: what answers the others.
        token: the secret in the address.
        host: the name or address that the server was told to listen on.
        port: the port that it listens on.
    """

    def __init__(self, app: ASGIApp, *, token: str, host: str, port: int) -> None:
        self.app = app
        self.token = token
        self.names = {"localhost", host.strip("[]").lower()}
        if host in ("0.0.0.0", "::"):
            self.names.add(socket.gethostname().lower())
        self.cookie = f"fmfbench_studio_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        reason = self.refusal(scope)
        if reason is not None:
            await self._with_headers(PlainTextResponse(f"403: {reason}\n", 403), scope, receive, send, False)
            return
        await self._with_headers(self.app, scope, receive, send, _given_tokens(scope) != [])

    def refusal(self, scope: Scope) -> str | None:
        """Why this request is not answered; None where it is."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own_name(hosts[0]):
            return "expected a Host of this machine; open the address that the command printed"
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in headers.getlist("origin")):
            return "expected an Origin of this page; other sites are not answered"
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and headers.get("sec-fetch-mode") != "navigate":
            return "expected a request of this page; other sites are not answered"
        given = _given_tokens(scope)
        cookie = cookie_parser(headers.get("cookie", "")).get(self.cookie)
        shown = given or ([cookie] if cookie is not None else [])
        if len(shown) != 1 or not hmac.compare_digest(shown[0].encode(), self.token.encode()):
            return "expected the token; open the address that the command printed, `?token=` included"
        return None

    def _is_own_name(self, host: str) -> bool:
        """Addresses cannot be pointed elsewhere by a name server, so each that reaches this server is its own."""
        name = host.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        wide = self.names & {"0.0.0.0", "::"}
        return address.is_loopback or bool(wide)

    async def _with_headers(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, set_cookie: bool
    ) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE_HEADERS.items():
                    headers[name] = value
                if set_cookie:
                    headers.append(
                        "Set-Cookie", f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
                    )
            await send(message)

        await app(scope, receive, sending)


def _given_tokens(scope: Scope) -> list[str]:
    query = scope.get("query_string", b"").decode("latin-1")
    return parse_qs(query, keep_blank_values=True).get("token", [])
