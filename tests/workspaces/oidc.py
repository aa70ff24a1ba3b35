"""A small OpenID Connect provider on 127.0.0.1: discovery, authorize, token, userinfo, keys. It checks what a real one checks."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID, SECRET = "rlmweb-client", "oidc-secret-of-the-tests"
_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Provider:
    """``person`` is who sits at the browser there; ``says`` is what the site was refused for."""

    def __init__(self) -> None:
        self.person: dict[str, Any] = {
            "sub": "7", "email": "nell@example.com", "email_verified": True, "name": "Nell Finch",
        }  # fmt: skip
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: set[str] = set()
        self.refused: list[str] = []
        self.down = False
        self.instead: dict[str, tuple[bytes, float]] = {}  # of a path, what it answers with, and seconds between bytes
        self.issuer = ""

    @property
    def app(self) -> dict[str, Any]:
        """What settings say of it."""
        return {
            "provider_id": "sso",
            "name": "Harbour ID",
            "client_id": CLIENT_ID,
            "secret": SECRET,
            "settings": {"server_url": self.issuer},
        }

    def get(self, path: str, asked: dict[str, str], bearer: str) -> tuple[int, Any]:
        if path == "/.well-known/openid-configuration":
            names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "userinfo_endpoint": "userinfo"}
            found = {name: f"{self.issuer}/{end}" for name, end in names.items()}
            return 200, {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", **found}
        if path == "/keys":
            return 200, {"keys": [json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(_key.public_key())) | {"kid": "k"}]}
        if path == "/authorize":
            assert asked["client_id"] == CLIENT_ID
            assert asked["response_type"] == "code"
            assert asked["code_challenge_method"] == "S256"
            code = secrets.token_hex(8)
            self.codes[code] = asked
            return 302, f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"
        if path == "/userinfo" and bearer in self.tokens:
            return 200, self.person
        return 404, {}

    def token(self, given: dict[str, str]) -> tuple[int, Any]:
        asked = self.codes.pop(given.get("code", ""), None)
        challenge = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        checks = {
            "code": asked is not None,
            "client": (given.get("client_id"), given.get("client_secret")) == (CLIENT_ID, SECRET),
            "redirect": asked is not None and given.get("redirect_uri") == asked["redirect_uri"],
            "pkce": asked is not None
            and base64.urlsafe_b64encode(challenge).rstrip(b"=").decode() == asked["code_challenge"],
        }
        self.refused += [name for name, well in checks.items() if not well]
        if not all(checks.values()):
            return 400, {"error": "invalid_grant"}
        token = secrets.token_hex(8)
        self.tokens.add(token)
        now = int(time.time())
        claims = self.person | {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 60}
        signed = jwt.encode(claims, _key, "RS256", headers={"kid": "k"})
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": 60, "id_token": signed}


@contextmanager
def provider() -> Iterator[Provider]:
    made = Provider()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: Any) -> None:
            if made.down:
                status, body = 503, {}
            self.send_response(status)
            if status == 302:
                self.send_header("Location", body)
                body = {}
            data = json.dumps(body).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _said_instead(self) -> bool:
            if (path := urlsplit(self.path).path) not in made.instead:
                return False
            body, pause = made.instead[path]
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            with contextlib.suppress(OSError):  # it is not listened to any more
                for piece in [body] if not pause else [body[n : n + 1] for n in range(len(body))]:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    time.sleep(pause)
            return True

        def do_GET(self) -> None:
            if self._said_instead():
                return
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self._answer(*made.get(parts.path, asked, self.headers.get("Authorization", "").removeprefix("Bearer ")))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            if self._said_instead():
                return
            self._answer(*made.token({name: values[0] for name, values in parse_qs(body).items()}))

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.issuer = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join(5)
