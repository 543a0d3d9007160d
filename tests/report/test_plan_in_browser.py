"""What only a browser can tell of plans and decisions; runs where Chromium is installed, which the project does not ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from nearhall.report.decision.page import render_decision
from nearhall.report.plan.page import render_plan
from report.decision_sample import decision
from report.plan_result_sample import plan_result
from report.test_in_browser import CHROMIUM, FLAGS

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
DRAWN = "[...document.querySelectorAll('.plot')].every((p) => p.childElementCount > 0 && p.getBoundingClientRect().height > 60)"
CLIPPED = """[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll') && !e.closest('.plot')
    && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 120))"""
PAGES: dict[str, Callable[[], str]] = {
    "plan": cache(lambda: render_plan(plan_result())),
    "decision": cache(lambda: render_decision(decision())),
}


def _look(file: Path, *, scheme: str, width: int) -> tuple[list[str], list[str], list[str]]:
    """What reaches beyond the screen, what the page complained of, and the addresses it asked for."""

    async def run() -> tuple[list[str], list[str], list[str]]:
        told: list[str] = []
        asked: list[str] = []
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = await browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.on("pageerror", lambda error: told.append(str(error)))
            page.on("console", lambda line: told.append(line.text) if line.type in {"error", "warning"} else None)
            page.on("request", lambda request: asked.append(request.url))
            await page.goto(file.as_uri())
            await page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            await page.wait_for_function(DRAWN)
            clipped = await page.evaluate(CLIPPED)
            await browser.close()
        return clipped, told, asked

    return asyncio.run(run())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_draws_everything_within_the_screen_and_asks_nobody(tmp_path: Path, name: str, width: int, scheme: str) -> None:
    file = tmp_path / f"{name}.html"
    file.write_text(PAGES[name]())
    clipped, told, asked = _look(file, scheme=scheme, width=width)
    assert clipped == []
    assert told == []
    assert asked == [file.as_uri()]


def test_what_reaches_beyond_the_screen_would_be_found(tmp_path: Path) -> None:
    file = tmp_path / "wide.html"
    file.write_text(PAGES["plan"]().replace("<h1>", '<h1 style="width:2000px">', 1))
    clipped, _, _ = _look(file, scheme="light", width=390)
    assert clipped


def test_a_link_opens_what_it_leads_to_and_a_tap_tells_what_a_figure_rests_on(tmp_path: Path) -> None:
    file = tmp_path / "plan.html"
    file.write_text(render_plan(plan_result()))

    async def run() -> None:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = await browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
            await page.goto(f"{file.as_uri()}#memory")
            folded = "document.querySelector('#{} > details').open"
            assert await page.evaluate(folded.format("memory")), "an address opens it too"
            assert not await page.evaluate(folded.format("grid"))
            await page.locator(".contents a[href='#grid']").tap()
            await page.wait_for_function(folded.format("grid"))
            await page.locator("a[href='#to-check']").first.tap()
            await page.wait_for_function("Math.abs(document.querySelector('#to-check').getBoundingClientRect().top) < 60")
            assert await page.locator(".told").count() == 0
            figure = page.locator("#first .sign .fig").first
            await figure.tap()
            assert await page.locator(".told").inner_text() == await figure.get_attribute("title")
            await page.locator("h1").tap(position={"x": 1, "y": 1})
            await browser.close()

    asyncio.run(run())
