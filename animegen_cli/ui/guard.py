"""Who may talk to the page, and what it may ask: this machine's own browser, at the address that was printed, alone.

A page on another site can make a browser send requests to 127.0.0.1, and by DNS rebinding even read the answers: its
host name then points here, but the `Host` header still says that name (Jackson et al. 2007, section 5.1).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from animegen_cli.data.cleaning import decode
from animegen_cli.data.sources import Unusable
from animegen_cli.errors import DataError

App = Callable[
    [MutableMapping[str, Any], Callable[..., Awaitable[Any]], Callable[..., Awaitable[None]]], Awaitable[None]
]

MOST_BYTES = 32 * 2**20
"""Of one request, and so of an uploaded picture."""
NAMES = ("127.0.0.1", "localhost")
_API = "/gradio_api"
_FILE = f"{_API}/file="
_READ = re.compile(
    rf"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static|svelte)/.*"
    rf"|{_API}/(theme\.css|app_id|startup-events|heartbeat/\w+|queue/data|upload_progress)"
)
_WRITE = re.compile(rf"{_API}/(queue/join|upload|cancel|reset)/?")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' data: blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'"
)
"""What the browser itself refuses: anything from elsewhere, and being shown inside another page."""
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """ASGI middleware around the whole page: refuses with 403 what comes from elsewhere or asks for anything else."""

    def __init__(self, app: App, *, port: int, files: Path) -> None:
        """Everything but pages and assets is read from below `files` alone."""
        self.app, self.files = app, files.resolve()
        bare = ("",) if port == 80 else ()  # browsers leave the usual port out
        self.hosts = {f"{name}{end}" for name in NAMES for end in (f":{port}", *bare)}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets
        why, status = self.refused(scope)
        if why:
            await _answer(send, status, why)
            return
        # Gradio would build addresses from these; no proxy stands before this page.
        scope["headers"] = [
            (k, v) for k, v in scope["headers"] if not k.startswith(b"x-forwarded") and k != b"forwarded"
        ]
        await self.app(scope, _limited(receive), _guarded(send))

    def refused(self, scope: MutableMapping[str, Any]) -> tuple[str, int]:
        """Why a request is refused and the status to say so with; ("", 0) for one that is welcome."""
        headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]]

        def all_of(wanted: str) -> list[str]:
            return [value.strip().lower() for key, value in headers if key == wanted]

        hosts, origins, sites = all_of("host"), all_of("origin"), all_of("sec-fetch-site")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return "this page answers under its own address alone", 403
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            return "another site may not use this page", 403
        typed = scope["method"] == "GET" and scope["path"] == "/" and "navigate" in all_of("sec-fetch-mode")
        if not typed and any(site not in ("same-origin", "none") for site in sites):
            return "another site may not use this page", 403
        length = (all_of("content-length") or ["0"])[0]
        if length.isdecimal() and int(length) > MOST_BYTES:
            return f"more than {MOST_BYTES // 2**20} MB", 413
        return ("", 0) if self.known(scope) else ("there is nothing here", 403)

    def known(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether the page itself ever asks for this path in this way."""
        path, method = scope["path"], scope["method"]
        if ".." in path.split("/"):
            return False
        if path.startswith(_FILE) and method in ("GET", "HEAD"):
            named = unquote_to_bytes(path.removeprefix(_FILE)).decode("utf-8", "replace")
            return "\0" not in named and self.files in Path(named).resolve().parents
        return bool((_READ if method in ("GET", "HEAD") else _WRITE).fullmatch(path)) and method in (
            "GET",
            "HEAD",
            "POST",
        )


def _limited(receive: Any) -> Any:
    """The body's pieces, up to `MOST_BYTES`: beyond it the sender is gone, whatever its header announced."""
    seen = 0

    async def piece() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if seen <= MOST_BYTES else {"type": "http.disconnect"}

    return piece


def _guarded(send: Any) -> Any:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return sent


async def _answer(send: Any, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def uploaded(name: str | None, folder: Path) -> Any:
    """An uploaded file as an upright RGB picture (`PIL.Image.Image`), whatever its name says that it is.

    Raises:
        DataError: no file, one outside `folder`, too large, or no picture that can be read.
    """
    if not name:
        raise DataError("there is no picture yet", hint="drop one into the box, or paste it")
    path = Path(name)
    if folder.resolve() not in path.resolve().parents:
        raise DataError("that file was not uploaded here", hint="choose a picture again")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Unusable(f"more than {MOST_BYTES // 2**20} MB")
        return decode(path.read_bytes())
    except (OSError, Unusable, MemoryError) as error:
        why = getattr(error, "strerror", None) or str(error) or "too many pixels"
        raise DataError(f"this picture cannot be used: {why}", hint="upload a PNG, JPEG or WebP picture") from error
