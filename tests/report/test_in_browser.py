"""What only a browser can tell; runs where Chromium is installed, which the project does not ask for."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import async_playwright

from nearhall.report.live.page import render_page
from nearhall.report.pilot.page import render_report
from nearhall.wire.live import LiveState

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
PHONE_PX = 375


def _look(
    file: Path, ask: Callable[[Any], Awaitable[Any]], *, scheme: str = "light", width: int = 1280
) -> tuple[Any, list[str], list[str]]:
    """What `ask` finds on the page, the errors it raised, and the addresses it asked for."""

    async def run() -> tuple[Any, list[str], list[str]]:
        errors: list[str] = []
        asked: list[str] = []
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = await browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            await page.goto(file.as_uri())
            await page.wait_for_function("document.querySelector('.plot > *') !== null")
            found = await ask(page)
            await browser.close()
        return found, errors, asked

    return asyncio.run(run())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_draws_everything_and_fits_a_phone(tmp_path: Path, pilot: dict[str, Any], scheme: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_report(pilot))

    async def ask(page: Any) -> Any:
        await page.wait_for_function("[...document.querySelectorAll('.plot')].every((p) => p.childElementCount > 0)")
        return await page.evaluate("document.documentElement.scrollWidth")

    width, errors, asked = _look(file, ask, scheme=scheme, width=PHONE_PX)
    assert width == PHONE_PX
    assert errors == []
    assert asked == [file.as_uri()]


def test_the_toggle_repaints_page_and_pictures(tmp_path: Path, pilot: dict[str, Any]) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_report(pilot))
    tones = """() => [getComputedStyle(document.body).backgroundColor,
        [...Bokeh.documents[0]._all_models.values()].find((m) => m.tags.includes("tone:fill:local")).fill_color.value]"""

    async def ask(page: Any) -> Any:
        before = await page.evaluate(tones)
        await page.click("button.theme")
        return before, await page.evaluate(tones)

    (before, after), errors, _ = _look(file, ask)
    assert errors == []
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_page_shows_its_figures_and_says_when_the_hub_is_silent(tmp_path: Path, live: LiveState) -> None:
    file = tmp_path / "page.html"
    file.write_text(render_page("events", live))

    async def ask(page: Any) -> Any:
        shown = await page.inner_text("[data-f='0/sum/local']")
        await page.wait_for_selector("body.stale", timeout=15_000)
        return shown, await page.inner_text("#banner")

    (shown, banner), _, _ = _look(file, ask)
    assert shown == "4,800M"
    assert banner.startswith("The hub has not answered for")
