"""The live page: one stream, no other host, names as text, a mark at every figure."""

from __future__ import annotations

import json
import re

import msgspec

from nearhall.report.live.page import render_page
from nearhall.report.look import shipped
from nearhall.wire.live import LiveMeter, LiveState
from nearhall.wire.telemetry import Event, ModelState

EVENTS_URL = "/api/v1/live/events"
PLANTED = "</script><script>alert('planted')</script>\"'&"


def _markup(html: str) -> str:
    """The page without its scripts."""
    return re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


def _setup(html: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="setup">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_one_event_source_feeds_everything(live: LiveState) -> None:
    assert shipped("live.js").count("new EventSource(") == 1
    assert _setup(render_page(EVENTS_URL, live))["events"] == EVENTS_URL


def test_nothing_is_fetched_from_another_host(live: LiveState) -> None:
    markup = _markup(render_page(EVENTS_URL, live))
    assert re.findall(r'(?:src|href)="(?!data:)', markup) == []
    assert "connect-src &#39;self&#39;" in markup
    assert "https://" not in markup


def test_every_live_figure_has_a_place_for_its_mark(live: LiveState) -> None:
    markup = _markup(render_page(EVENTS_URL, live))
    figures = markup.count("data-f=")
    assert figures > 100
    assert markup.count('<span class="v">') == figures
    assert markup.count('<abbr class="mark" hidden></abbr>') == figures
    assert markup.count("data-kind=") == figures


def test_the_kind_of_every_figure_is_one_that_sites_report(live: LiveState) -> None:
    named = set(re.findall(r'data-kind="([a-z_]+)"', render_page(EVENTS_URL, live)))
    assert named == live.sites[0].kinds.keys()


def test_the_script_knows_every_form(live: LiveState) -> None:
    forms = set(re.findall(r'data-as="([a-z_]+)"', render_page(EVENTS_URL, live)))
    script = shipped("live.js")
    table = script[script.index("const forms = {") : script.index("};", script.index("const forms = {"))]
    assert forms
    assert all(re.search(rf"\b{form}\b", table) for form in forms)


def test_names_from_outside_are_text(live: LiveState) -> None:
    plain = render_page(EVENTS_URL, live)
    site = live.sites[0]
    planted = msgspec.structs.replace(
        site,
        id=PLANTED,
        klass=PLANTED,
        jurisdiction=PLANTED,
        workloads=[
            msgspec.structs.replace(site.workloads[0], id=PLANTED, model=PLANTED, residency=PLANTED, outcomes={PLANTED: 1.0})
        ],
        meters=[LiveMeter(id=PLANTED, position=PLANTED, kind=PLANTED, power_w=1.0)],
        models=[ModelState(name=PLANTED, version="1", variant="x", runtime="y", state=PLANTED)],
        kinds={"counts": PLANTED},
    )
    state = msgspec.structs.replace(
        live,
        hub=PLANTED,
        software=PLANTED,
        sites=[planted, live.sites[1]],
        events=[(PLANTED, Event(at_s=1.0, kind="x", text=PLANTED))],
    )
    html = render_page(EVENTS_URL, state)
    assert html.count("<script") == plain.count("<script")
    assert "<script>alert" not in html
    assert _setup(html)["snapshot"] == json.loads(msgspec.json.encode(state))


def test_the_script_writes_text_only() -> None:
    script = shipped("live.js") + shipped("look.js")
    assert [call for call in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(") if call in script] == []


def test_meters_never_name_columns(live: LiveState) -> None:
    site = live.sites[0]
    odd = msgspec.structs.replace(site, meters=[LiveMeter(id="t", position="feed", kind="simulated", power_w=1.0)])
    html = render_page(EVENTS_URL, msgspec.structs.replace(live, sites=[odd]))
    assert "points-0" in html


def test_a_hub_without_sites_says_that_it_waits(live: LiveState) -> None:
    html = render_page(EVENTS_URL, msgspec.structs.replace(live, sites=[], events=[]))
    assert "Waiting for the first site" in html


def test_a_site_that_has_told_nothing_yet_renders(live: LiveState) -> None:
    fresh = msgspec.structs.replace(live.sites[0], workloads=[], meters=[], models=[], points=[], kinds={}, rtt_ms=None, pue=None)
    assert "shop-01" in render_page(EVENTS_URL, msgspec.structs.replace(live, sites=[fresh]))
