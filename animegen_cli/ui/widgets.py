"""What the page takes from Gradio with a change: colors and fonts, the upload box, errors and progress."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import gradio as gr
import torch

from animegen_cli.errors import AnimegenError, MachineError
from animegen_cli.ui import render

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradio.data_classes import FileData

P = ParamSpec("P")
R = TypeVar("R")

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
MONOSPACED_FONTS = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]


def theme() -> gr.themes.Base:
    """The colors of the reports, and fonts that every system has: nothing is fetched."""
    return gr.themes.Base(
        primary_hue="blue", neutral_hue="zinc", radius_size="sm", font=FONTS, font_mono=MONOSPACED_FONTS
    ).set(
        body_background_fill="#fdfdfb", body_background_fill_dark="#17181c",
        body_text_color="#232327", body_text_color_dark="#e4e4e8",
        body_text_color_subdued="#5d5d66", body_text_color_subdued_dark="#a3a3ad",
        block_info_text_color="#5d5d66", block_info_text_color_dark="#a3a3ad",
        block_background_fill="#fdfdfb", block_background_fill_dark="#17181c",
        button_primary_background_fill="#1f5f93", button_primary_background_fill_hover="#2b7bba",
        button_primary_background_fill_dark="#2b6ea5", button_primary_background_fill_hover_dark="#3a86c4",
        button_primary_text_color="#ffffff", button_primary_text_color_dark="#ffffff",
        slider_color="#1f5f93", slider_color_dark="#86bbea",
    )  # fmt: skip


def upload_box(label: str, name: str, height: int) -> gr.Image:
    """An image input, called `name` in HTML, whose file is read by `guard` alone: Gradio would open it before any check."""
    box = gr.Image(
        label=label, elem_id=name, type="filepath", sources=["upload", "clipboard"], height=height, buttons=[]
    )

    def path_of(payload: FileData | None) -> str | None:
        return payload.path if payload is not None else None

    # No subclass of `gr.Image`: for one, Gradio writes a stub file beside this module.
    box.preprocess = path_of  # type: ignore[method-assign, assignment]
    return box


def with_errors_shown(action: Callable[P, R]) -> Callable[P, R]:
    """The action, of which expected errors become a short message on the page, with what to do."""

    @functools.wraps(action)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return action(*args, **kwargs)
        except AnimegenError as error:
            raise gr.Error(render.problem(error), print_exception=False) from error
        except (MemoryError, torch.OutOfMemoryError) as error:
            shortage = MachineError("there is not enough memory", hint="ask for fewer or smaller pictures")
            raise gr.Error(render.problem(shortage), print_exception=False) from error

    return wrapped


def progress(total: int) -> Callable[[int], None]:
    """A bar for `total` pictures, shown at 0 at once because the first ones may take long.

    Returns:
        A function to call with the number of pictures that were just drawn.
    """
    bar = gr.Progress()
    finished = 0

    def advance(count: int) -> None:
        nonlocal finished
        finished += count
        bar((min(finished, total), total), desc="drawing", unit="pictures")

    advance(0)
    return advance
