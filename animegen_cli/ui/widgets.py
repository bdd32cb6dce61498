"""What the page is built from: its look, its upload box, how it tells errors and progress."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import gradio as gr
import torch

from animegen_cli.errors import AnimegenError, MachineError
from animegen_cli.ui import render

if TYPE_CHECKING:
    from collections.abc import Callable

SYSTEM = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
MONO = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]


def theme() -> gr.themes.Base:
    """The colours of the reports, and fonts that every system has: nothing is fetched."""
    return gr.themes.Base(
        primary_hue="blue", neutral_hue="zinc", radius_size="sm", font=SYSTEM, font_mono=MONO
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


def upload_box() -> gr.Image:
    """An image input whose file is decoded by `guard.uploaded` alone: Gradio would open it before any check.

    No subclass of `gr.Image`: for one, Gradio writes a stub file beside this module.
    """
    box: Any = gr.Image(label="Picture", type="filepath", sources=["upload", "clipboard"], height=240, buttons=[])
    box.preprocess = lambda payload: payload.path if payload is not None else None
    return box


def told(action: Callable[..., Any]) -> Callable[..., Any]:
    """Expected errors as a short message on the page, with what to do."""

    @functools.wraps(action)
    def answer(*inputs: Any) -> Any:
        try:
            return action(*inputs)
        except AnimegenError as error:
            raise gr.Error(render.problem(error), print_exception=False) from error
        except (MemoryError, torch.OutOfMemoryError) as error:
            none = MachineError("there is not enough memory", hint="ask for fewer or smaller pictures")
            raise gr.Error(render.problem(none), print_exception=False) from error

    return answer


def progress(total: int) -> Callable[[int], None]:
    """Progress for the person who waits, from 0 at once: the first faces may take long."""
    bar, seen = gr.Progress(), [0]

    def done(count: int) -> None:
        seen[0] += count
        bar((min(seen[0], total), total), desc="drawing", unit="pictures")

    done(0)
    return done
