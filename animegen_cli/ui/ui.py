"""`animegen ui`: serves the page to a browser on this machine; one port, one temporary folder, nothing left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from animegen_cli import console, paths
from animegen_cli.errors import DataError, MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

HOST = "127.0.0.1"
_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")
_ICON = Path(__file__).with_name("icon.svg")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `animegen ui` is asked to show."""

    runs: Path = paths.RUNS
    """The folder of the runs."""
    port: int = 7860
    """Port of this machine; 0 for any free one."""
    device: str | None = None
    """Device that draws, such as "cuda:1"; a GPU where there is one when None."""
    open_browser: bool = True


def ui(request: Request) -> None:
    """Serve the page to this machine alone until Ctrl-C, which ends the process.

    Raises:
        MachineError: the extra is missing, or the port is taken or not allowed.
        DataError: there is no such folder.
    """
    if not request.runs.is_dir():
        raise DataError(
            f"there is no folder {request.runs}", hint="train a run first, or name its folder with `--runs`"
        )
    try:
        with _bound(request.port) as listening, _own_folder() as folder:
            page = _page(request, folder, listening.getsockname()[1])
            _serve(page, listening, open_browser=request.open_browser)
    except (KeyboardInterrupt, SystemExit) as leaving:
        # A thread that is inside torch cannot be ended; an ordinary exit would abort over it. Nothing is left to do.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130 if isinstance(leaving, KeyboardInterrupt) else 128 + signal.SIGTERM)


def _page(request: Request, folder: Path, port: int) -> ASGIApp:
    """The guarded ASGI application; uploads go to `folder`."""
    # Gradio reads its settings from the environment when it is imported.
    os.environ |= {
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_EXAMPLES_CACHE": str(folder),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
    }
    try:
        import fastapi
        import gradio
    except ImportError:
        raise MachineError("the page needs an extra", hint="type `pip install 'animegen[ui]'`") from None
    from animegen_cli.ui import app, guard, widgets
    from animegen_cli.ui.actions import Models

    page = app.Page(request.runs, Models(request.device), folder)
    threading.Thread(target=page.warm_up, daemon=True).start()
    no_documentation: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    outer = fastapi.FastAPI(**no_documentation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gradio.mount_gradio_app(
            outer,
            page.blocks,
            path="/",
            server_name=HOST,
            server_port=port,
            app_kwargs=dict(no_documentation),
            root_path="",
            footer_links=[],
            run_history=False,
            show_error=False,
            max_file_size=guard.MAX_BYTES,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            enable_monitoring=False,
            allowed_paths=[],
            blocked_paths=[str(request.runs.resolve())],
            favicon_path=str(_ICON),
            theme=widgets.theme(),
            css_paths=_STYLE,
            head=f"<script>{_SCRIPT.read_text()}</script>",
        )
    return guard.guarded(outer, port=port, uploads=folder)


def _serve(page: ASGIApp, listening: socket.socket, *, open_browser: bool) -> None:
    """Serve in a thread, so that Ctrl-C need not wait for a face that is being drawn."""
    import uvicorn

    config = uvicorn.Config(
        page,
        log_level="error",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=1,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    address = f"http://{HOST}:{listening.getsockname()[1]}"
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        thread.start()
        while not server.started:
            thread.join(0.05)
            if not thread.is_alive():
                raise MachineError("the page could not be served", hint="name another port with `--port`")
        console.result({"address": address}, address)
        console.note("stop with Ctrl-C")
        if open_browser and not (_has_screen() and webbrowser.open(address)):
            console.note(f"no browser was found: open {address} in one")
        while thread.is_alive():
            thread.join(1)
    finally:
        server.should_exit = True
        thread.join(1.5)
        signal.signal(signal.SIGTERM, before)


def _has_screen() -> bool:
    """Whether a browser would open in a window: one that fills this terminal is not wanted."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


@contextlib.contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    """A socket that listens on this machine alone; MachineError when another program has the port."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen()
        except (OSError, OverflowError) as error:
            taken = getattr(error, "errno", None) == errno.EADDRINUSE
            why = "is taken" if taken else f"cannot be used: {getattr(error, 'strerror', None) or error}"
            raise MachineError(f"port {port} {why}", hint="name another, such as `--port 7861`") from None
        yield listening


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """A temporary folder for uploads, in which libraries put theirs too; removed at the end."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="animegen-ui-", ignore_cleanup_errors=True) as name:
        tempfile.tempdir = name
        try:
            yield Path(name)
        finally:
            tempfile.tempdir = before
