"""A real headless Chromium for what people see: pages are opened, clicked and measured, not read as text."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Frame, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
LEAVING = "the page is being left"


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser; the test is skipped where there is none, and fails so in CI."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI has no Chromium: .ci/run installs it")
        pytest.skip("no Chromium here")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser | BrowserContext, address: str, **options: Any) -> Iterator[Page]:
    """A page at `address` whose console errors and exceptions fail the test; `options` of `Browser.new_page`."""
    page = browser.new_page(**options)
    complaints: list[str] = []
    leaving = False  # between a reload and the new document: what is asked of the server then breaks off, rightly

    def hear(message: ConsoleMessage) -> None:
        nonlocal leaving
        leaving = leaving or message.text == LEAVING
        if message.type == "error" and not leaving:
            complaints.append(message.text)

    def arrive(frame: Frame) -> None:
        nonlocal leaving
        leaving = leaving and frame != page.main_frame

    page.add_init_script(f"addEventListener('beforeunload', () => console.debug('{LEAVING}'))")  # the page's own follow
    page.on("console", hear)
    page.on("pageerror", lambda error: None if leaving else complaints.append(str(error)))
    page.on("framenavigated", arrive)
    try:
        page.goto(address)
        yield page
        assert not complaints, complaints
    finally:
        page.close()
