"""Who may talk to the page, and what it may ask: this machine's own browser alone, at the address that was printed.

A page on another site can make a browser send requests to 127.0.0.1, and by DNS rebinding even read the answers: its
host name then points here, but the `Host` header still says that name (Jackson et al. 2007, section 5.1).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

from animegen_cli.data.decoding import decode
from animegen_cli.data.sources import Unusable
from animegen_cli.errors import DataError
from animegen_cli.sample import recipe

if TYPE_CHECKING:
    from PIL import Image
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from animegen_cli.sample.recipe import Recipe

MAX_BYTES = 32 * 2**20
"""Most bytes of one request, and so of an uploaded picture."""
HOST_NAMES = ("127.0.0.1", "localhost")
_API = "/gradio_api"
_FILE = f"{_API}/file="
_READABLE = re.compile(
    rf"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static|svelte)/.*"
    rf"|{_API}/(theme\.css|app_id|startup-events|heartbeat/\w+|queue/data|upload_progress)"
)
_WRITABLE = re.compile(rf"{_API}/(queue/join|upload|cancel|reset)/?")
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


class Refusal(NamedTuple):
    """The answer to a request that is not let through."""

    status: int
    reason: str


def guarded(app: ASGIApp, *, port: int, uploads: Path) -> ASGIApp:
    """The page `app`, which answers only this machine's own browser at `port`.

    Starlette answers 400 to another host name; `Guard` answers 403 or 413 to whatever else is refused.

    Args:
        app: the whole page.
        port: where the page listens.
        uploads: the only folder whose files are answered.
    """
    return TrustedHostMiddleware(
        Guard(app, port=port, uploads=uploads), allowed_hosts=list(HOST_NAMES), www_redirect=False
    )


class Guard:
    """ASGI middleware that refuses what comes from another site, is too large, or is not what the page itself asks for.

    It relies on `TrustedHostMiddleware` around it, which has checked the name in the `Host` header.
    """

    def __init__(self, app: ASGIApp, *, port: int, uploads: Path) -> None:
        """Let requests to `port` through to `app`, and of files only those below the folder `uploads`."""
        self.app = app
        self.uploads = uploads.resolve()
        self.ports = {str(port), ""} if port == 80 else {str(port)}  # browsers leave the usual port out

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of the ASGI server."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets
        refusal = self._refusal(scope)
        if refusal is not None:
            response = PlainTextResponse(refusal.reason, refusal.status, headers={"connection": "close"})
            await response(scope, receive, send)
            return
        # Gradio would build addresses from these; no proxy stands before this page.
        scope["headers"] = [
            (key, value)
            for key, value in scope["headers"]
            if not key.startswith(b"x-forwarded") and key != b"forwarded"
        ]
        await self.app(scope, _limited(receive), _with_policy(send))

    def _refusal(self, scope: Scope) -> Refusal | None:
        """Why a request is refused; None for one that is welcome."""
        headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]]

        def all_of(wanted: str) -> list[str]:
            return [value.strip().lower() for key, value in headers if key == wanted]

        # TrustedHostMiddleware reads the name of the first `Host` alone: the port and a second `Host` are left to us. A
        # page of another program on another port of this machine is another site.
        hosts = all_of("host")
        if len(hosts) != 1 or hosts[0].partition(":")[2] not in self.ports:
            return Refusal(403, "this page answers under its own address alone")
        if any(origin != f"http://{hosts[0]}" for origin in all_of("origin")):
            return Refusal(403, "another site may not use this page")
        # The address typed, or a link followed from another page.
        opened = scope["method"] == "GET" and scope["path"] == "/" and "navigate" in all_of("sec-fetch-mode")
        if not opened and any(site not in ("same-origin", "none") for site in all_of("sec-fetch-site")):
            return Refusal(403, "another site may not use this page")
        length = next(iter(all_of("content-length")), "0")
        if length.isdecimal() and int(length) > MAX_BYTES:
            return Refusal(413, f"more than {MAX_BYTES // 2**20} MB")
        return None if self._is_known(scope["method"], scope["path"]) else Refusal(403, "there is nothing here")

    def _is_known(self, method: str, path: str) -> bool:
        """Whether the page itself ever asks for this path by this method."""
        if ".." in path.split("/"):
            return False
        if method == "POST":
            return _WRITABLE.fullmatch(path) is not None
        if method not in ("GET", "HEAD"):
            return False
        if path.startswith(_FILE):
            name = unquote_to_bytes(path.removeprefix(_FILE)).decode("utf-8", "replace")
            return "\0" not in name and self.uploads in Path(name).resolve().parents
        return _READABLE.fullmatch(path) is not None


def _limited(receive: Receive) -> Receive:
    """The parts of the body, up to `MAX_BYTES`: beyond it the sender counts as gone, whatever its header announced."""
    seen = 0

    async def receive_part() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if seen <= MAX_BYTES else {"type": "http.disconnect"}

    return receive_part


def _with_policy(send: Send) -> Send:
    """Answers with the headers that tell the browser what to refuse."""

    async def send_part(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return send_part


def read_recipe(name: str | None, folder: Path) -> Recipe:
    """The recipe in an uploaded file; DataError as of `read_upload`, and for a picture that has none."""
    path = _uploaded(name, folder)
    read_upload(name, folder)
    return recipe.parse(recipe.texts(path), path.name)


def _uploaded(name: str | None, folder: Path) -> Path:
    """The uploaded file; DataError for none, or one outside `folder`."""
    if not name:
        raise DataError("there is no picture yet", hint="drop one into the box, or paste it")
    path = Path(name)
    if folder.resolve() not in path.resolve().parents:
        raise DataError("that file was not uploaded here", hint="choose a picture again")
    return path


def read_upload(name: str | None, folder: Path) -> Image.Image:
    """An uploaded file as an upright RGB picture, whatever its name says that it is.

    Raises:
        DataError: no file, one outside `folder`, too large, or no picture that can be read.
    """
    path = _uploaded(name, folder)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Unusable(f"more than {MAX_BYTES // 2**20} MB")
        return decode(path.read_bytes())
    except (OSError, Unusable, MemoryError) as error:
        why = getattr(error, "strerror", None) or str(error) or "too many pixels"
        raise DataError(f"this picture cannot be used: {why}", hint="upload a PNG, JPEG or WebP picture") from error
