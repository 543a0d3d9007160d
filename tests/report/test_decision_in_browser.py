"""What only a browser can tell of a decision on a phone; runs where Chromium is installed, which the project does not ask for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from nearhall.report.decision.page import render_decision
from report.decision_sample import decision
from report.test_in_browser import CHROMIUM, FLAGS

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
PHONE_PX = 390
SIDEWAYS = """[...document.querySelectorAll('main table, main .scroll')].filter((e) => e.scrollWidth > e.clientWidth + 1
    || e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 120))"""
"""Tables that a reader would have to push aside to read."""


def _sideways(html: str, file: Path) -> list[str]:
    file.write_text(html)

    async def run() -> list[str]:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = await browser.new_page(viewport={"width": PHONE_PX, "height": 800})
            await page.goto(file.as_uri())
            await page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
            found = await page.evaluate(SIDEWAYS)
            await browser.close()
            return found

    return asyncio.run(run())


def test_no_table_of_a_decision_goes_sideways_on_a_phone(tmp_path: Path) -> None:
    assert _sideways(render_decision(decision()), tmp_path / "decision.html") == []


def test_a_table_that_does_would_be_found(tmp_path: Path) -> None:
    plain = render_decision(decision()).replace('class="stack"', "")
    assert _sideways(plain, tmp_path / "plain.html")
