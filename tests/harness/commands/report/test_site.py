"""The site in a real browser: opened as files, with nothing but what the folder holds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from harness.commands.publish import command
from harness.commands.publish.command import PublishRequest, publish
from harness.commands.publish.record import FOLDER
from harness.commands.report import make
from harness.commands.report.boards import BOARDS, Board
from harness.commands.report.make import make_report
from tests.browser import WAIT, Browser
from tests.harness.commands.publish.runs import Drawing, write_limits, write_run
from tests.harness.commands.report.folder import (
    CLAIMS,
    HOSTILE,
    map_figure,
    samples,
    small_table,
    write_result,
    write_results,
    write_samples_of,
)

PAGES = (
    "index.html",
    "tiny/table1.html",
    "tiny/table1.samples.html",
    "tiny/figure4.samples.html",
    "tiny/leaderboard.html",
    "tiny/claims.html",
    "published/tiny-table1.html",
    "published/tiny-table1.samples.html",
)
VIEWERS = ("tiny/table1.samples.html", "tiny/figure4.samples.html")
COUNT = 260


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_results(folder / "results", COUNT)
    (folder / "results/tiny/table2").mkdir()
    (folder / "results/tiny/table2/table2.json").write_text("{")
    run = write_run(folder / "made")
    request = PublishRequest(run, "tiny-table1", write_limits(folder), folder / "results" / FOLDER)
    claims = Board("claims", "The paper's claims", "claims.html", lambda results, profile: CLAIMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "get_domain", lambda name: Drawing())
        publish(request)
        patch.setattr(make, "BOARDS", (*(b for b in BOARDS if b.name != "claims"), claims))
        make_report(folder / "results", None, folder / "site")
    return folder / "site"


@pytest.fixture
def page(browser: Browser) -> Any:
    """Opens pages, and checks at the end that nothing failed or was fetched from elsewhere."""
    opened: list[Path] = []

    def show(site: Path, place: str, width: int = 1440, scheme: str = "light") -> Browser:
        opened.append(site)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.call("Emulation.setEmulatedMedia", features=features)
        browser.open(site / place, width)
        if place.endswith(".samples.html"):
            browser.until("document.querySelectorAll('.panel').length > 0")
        return browser

    yield show
    assert not browser.errors
    assert browser.requests
    for url in browser.requests:
        assert any(url.startswith(folder.resolve().as_uri()) for folder in opened), url


def texts(browser: Browser, selector: str) -> list[str]:
    found: list[str] = browser.value(
        f"[...document.querySelectorAll({json.dumps(selector)})].filter("
        "e => e.checkVisibility()).map(e => e.innerText.trim())"
    )
    return found


def click(browser: Browser, selector: str, place: int = 0) -> None:
    browser.value(f"document.querySelectorAll({json.dumps(selector)})[{place}].click()")


def write(browser: Browser, selector: str, text: str, event: str = "input") -> None:
    browser.value(
        f"{{ const field = document.querySelector({json.dumps(selector)});"
        f" field.value = {json.dumps(text)}; field.dispatchEvent(new Event({event!r})); }}"
    )


def position(browser: Browser, text: str) -> None:
    browser.until(f"document.getElementById('position').textContent === {json.dumps(text)}")


def shown_sample(browser: Browser, number: int) -> None:
    """Wait until the viewer shows the sample of a number."""
    browser.until(
        "(document.querySelector('#content .message .text') || {}).textContent === "
        f"'Question {number}?'"
    )


def test_tables_are_sorted_by_a_click_and_by_the_keyboard(page: Any, site: Path) -> None:
    browser = page(site, "tiny/table1.html")
    first = "document.querySelectorAll('table')[0]"
    labels = f"[...{first}.tBodies[0].rows].map(row => row.cells[0].textContent)"
    assert browser.value(labels) == ["SFT", "DPO", "TDPO v1"]
    click(browser, "thead button", 1)
    # BBH: 30, 20, 25.
    assert browser.value(labels) == ["DPO", "TDPO v1", "SFT"]
    assert browser.value(f"{first}.tHead.rows[0].cells[1].ariaSort") == "ascending"
    browser.value(f"{first}.tHead.rows[0].cells[1].firstChild.focus()")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r")
    assert browser.value(labels) == ["SFT", "TDPO v1", "DPO"]
    assert browser.value(f"{first}.tHead.rows[0].cells[1].ariaSort") == "descending"
    click(browser, "thead button", 0)
    assert browser.value(labels) == ["DPO", "SFT", "TDPO v1"]
    # A column without values keeps its order, and only one column is marked as the sorted one.
    click(browser, "thead button", 3)
    assert browser.value(labels) == ["DPO", "SFT", "TDPO v1"]
    assert browser.value(f"{first}.querySelectorAll('[aria-sort]').length") == 1


def test_rows_are_filtered_by_words_and_by_significance(page: Any, site: Path) -> None:
    browser = page(site, "index.html")
    missing = "document.querySelectorAll('table')[1]"
    rows = f"[...{missing}.tBodies[0].rows].filter(row => !row.hidden)"
    shown = f"{rows}.map(row => row.cells[0].innerText)"
    everything = browser.value(shown)
    write(browser, ".tools input[type=search]", "run --figure 2")
    assert browser.value(shown) == ["figure2"]
    assert texts(browser, ".tools [role=status]")[-1] == f"1 of {len(everything)} rows"
    write(browser, ".tools input[type=search]", "no such words")
    assert browser.value(shown) == []
    write(browser, ".tools input[type=search]", "")
    assert browser.value(shown) == everything
    browser = page(site, "tiny/table1.html")
    table = "document.querySelectorAll('table')[0]"
    click(browser, ".tools input[type=checkbox]")
    assert browser.value(
        f"[...{table}.tBodies[0].rows].filter(row => !row.hidden).map(r => r.cells[0].innerText)"
    ) == ["SFT"]


def test_a_table_becomes_a_heat_map(page: Any, site: Path) -> None:
    browser = page(site, "tiny/table1.html")
    shades = (
        "[...document.querySelectorAll('table')[0].tBodies[0].rows].map("
        "row => getComputedStyle(row.cells[1]).backgroundColor)"
    )
    assert len(set(browser.value(shades))) == 1
    click(browser, ".tools input[type=checkbox]", 1)
    found = browser.value(shades)
    assert len(set(found)) == 3
    click(browser, ".tools input[type=checkbox]", 1)
    assert len(set(browser.value(shades))) == 1


def test_the_viewer_goes_by_keyboard(page: Any, site: Path) -> None:
    browser = page(site, VIEWERS[0])
    position(browser, f"1 of {COUNT}")
    shown_sample(browser, 0)
    for key, number in [("ArrowRight", 1), ("j", 2), ("ArrowLeft", 1), ("k", 0), ("k", 0)]:
        browser.press(key)
        shown_sample(browser, number)
    browser.press("End")
    shown_sample(browser, COUNT - 1)
    position(browser, f"{COUNT} of {COUNT}")
    assert browser.value("document.getElementById('next').disabled")
    browser.press("Home")
    shown_sample(browser, 0)
    browser.press("/")
    assert browser.value("document.activeElement.id") == "search"
    # In the field the keys write.
    browser.press("j")
    shown_sample(browser, 0)
    browser.press("Escape")
    assert browser.value("document.activeElement.id") != "search"
    browser.press("j")
    shown_sample(browser, 1)
    assert browser.value("location.hash") == "#2"


def test_the_viewer_shows_all_methods_side_by_side(page: Any, site: Path) -> None:
    browser = page(site, f"{VIEWERS[0]}")
    shown_sample(browser, 0)
    headings = texts(browser, ".panel h3")
    assert headings == ["data: chosen", "SFT", "DPO", "TDPO v1"]
    tops = browser.value(
        "[...document.querySelectorAll('.panel')].map(p => Math.round(p.offsetTop))"
    )
    assert len(set(tops)) < len(tops)
    scores = texts(browser, ".panel:nth-of-type(3) .scores")
    assert scores == ["win against chosen: 0", "verdict on this program: failed"]
    click(browser, "#rows input", 2)
    browser.until("document.querySelectorAll('.panel').length === 3")
    assert texts(browser, ".panel h3") == ["data: chosen", "SFT", "DPO"]


def test_the_viewer_searches_every_page(page: Any, site: Path) -> None:
    browser = page(site, VIEWERS[0])
    # It is on the last page, in one method's response.
    write(browser, "#search", f"RESPONSE {COUNT - 2} by tdpo1")
    position(browser, "1 of 1")
    shown_sample(browser, COUNT - 2)
    assert texts(browser, "mark") == [f"response {COUNT - 2} by tdpo1"]
    write(browser, "#search", "question 25")
    browser.until("document.getElementById('status').textContent.startsWith('11 of')")
    position(browser, "1 of 11")
    write(browser, "#search", "no sample has this")
    position(browser, "none")
    assert texts(browser, ".panel") == []
    write(browser, "#search", "")
    position(browser, f"1 of {COUNT}")
    shown_sample(browser, 0)


def test_the_viewer_selects_and_orders(page: Any, site: Path) -> None:
    browser = page(site, VIEWERS[0])
    write(browser, "#group", "1", "change")
    position(browser, f"1 of {COUNT // 2}")
    shown_sample(browser, COUNT // 2)
    write(browser, "#chain", "1", "change")
    position(browser, f"1 of {COUNT // 4}")
    shown_sample(browser, COUNT // 2 + 1)
    write(browser, "#chain", "", "change")
    # DPO's win falls with the number.
    write(browser, "#order", "+dpo win", "change")
    shown_sample(browser, COUNT - 1)
    write(browser, "#order", "-dpo win", "change")
    shown_sample(browser, COUNT // 2)
    click(browser, "#items button", 2)
    shown_sample(browser, COUNT // 2 + 2)
    position(browser, f"3 of {COUNT // 2}")


def test_only_the_needed_pages_are_loaded(page: Any, site: Path) -> None:
    browser = page(site, VIEWERS[0])
    shown_sample(browser, 0)
    loaded = [url.rpartition("/")[2] for url in browser.requests if "/samples/" in url]
    assert loaded == ["index.js", "0001.js"]
    browser.press("End")
    shown_sample(browser, COUNT - 1)
    assert browser.requests[-1].endswith("0003.js")


def test_a_page_loads_as_little_with_5000_samples(page: Any, tmp_path: Path) -> None:
    """Less than 0.5 MB, which a browser has shown within a second."""
    write_results(tmp_path / "results", 5000)
    make_report(tmp_path / "results", None, tmp_path / "site")
    for place in (one for one in PAGES if not one.startswith("published")):
        browser = page(tmp_path / "site", place)
        files = {unquote(urlparse(url).path) for url in browser.requests}
        assert sum(Path(file).stat().st_size for file in files) < 500_000, place
        if place == VIEWERS[0]:
            position(browser, "1 of 5000")
            browser.press("End")
            shown_sample(browser, 4999)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("console.error('one')", "one"),
        ("nothing.here()", "nothing is not defined"),
        ("fetch('http://127.0.0.1:9/two').catch(() => {})", "http://127.0.0.1:9/two"),
    ],
)
def test_an_error_or_a_request_of_a_page_is_noticed(
    browser: Browser, tmp_path: Path, script: str, said: str
) -> None:
    """Otherwise no other test here would tell anything about errors and requests."""
    file = tmp_path / "page.html"
    file.write_text(f"<script>{script}</script>")
    browser.open(file)
    deadline = time.monotonic() + WAIT
    while not any(said in text for text in [*browser.errors, *browser.requests[1:]]):
        assert time.monotonic() < deadline, (script, browser.errors, browser.requests)
        browser.value("1")  # Events arrive with answers.


def test_token_maps_show_values_by_keyboard(page: Any, site: Path) -> None:
    browser = page(site, VIEWERS[1])
    tokens = texts(browser, ".panel:nth-of-type(1) .token")
    assert tokens == ["good", "film", "▯"]
    write(browser, "#colour", "masked_rewards", "change")
    browser.until("document.querySelectorAll('.token.off').length === 3")
    colours = browser.value(
        "[...document.querySelectorAll('.panel')[0].querySelectorAll('.token')]"
        ".map(t => t.style.background)"
    )
    assert colours[0] != colours[1] == colours[2]
    # The last method has no such values, which is said.
    assert "has no token reward" in texts(browser, ".panel:nth-of-type(3) .note")[0]
    browser.value("document.querySelector('.token').focus()")
    browser.press("ArrowRight")
    assert browser.value("document.activeElement.textContent") == " film"
    values = texts(browser, ".panel:nth-of-type(1) .values")[0]
    assert "mask m_u 0" in values and "log-ratio r −0.5" in values
    browser.press("End")
    assert browser.value("document.activeElement.textContent") == "▯"


def test_text_of_models_stays_text(page: Any, tmp_path: Path) -> None:
    result = small_table(title=HOSTILE)
    result["rows"][0]["label"] = HOSTILE
    result["notes"] = [HOSTILE]
    folder = write_result(tmp_path / "results", "table1", result)
    rows = {"sft": HOSTILE, "dpo": "DPO", "tdpo1": "__proto__"}
    found = samples(3, HOSTILE)
    write_samples_of(folder, "table1", found, rows=rows, scores={"win": HOSTILE, "verdict": "v"})
    figure = write_result(tmp_path / "results", "figure4", map_figure())
    write_samples_of(figure, "figure4", found[:1], rows=rows)
    make_report(tmp_path / "results", None, tmp_path / "site")
    for place in ("index.html", "tiny/table1.html", "tiny/table1.samples.html"):
        browser = page(tmp_path / "site", place)
        assert HOSTILE in browser.value("document.body.textContent")
        assert browser.value("document.querySelectorAll('b, img[src^=http]').length") == 0
        assert browser.value("document.title") != "ran"
        assert browser.value(
            "[...document.scripts].every(s => s.src.startsWith('file:') && !s.textContent)"
        )
    assert HOSTILE in browser.value("document.querySelector('.panel .text').textContent") or (
        HOSTILE in browser.value("document.querySelectorAll('.panel .text')[1].textContent")
    )
    write(browser, "#search", "onerror=")
    position(browser, "1 of 3")
    browser.until("document.querySelectorAll('mark').length >= 3")
    assert browser.value("document.querySelectorAll('b, img').length") == 0


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("place", PAGES)
def test_nothing_is_clipped_on_a_phone_or_a_desktop(
    page: Any, site: Path, place: str, width: int
) -> None:
    browser = page(site, place, width)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.value(wide) <= 0
    # Only tables may be wider than the screen, in a region that scrolls.
    outside = (
        "[...document.querySelectorAll('main *')].filter(e => e.checkVisibility() &&"
        " !e.closest('.scroll, .hidden') && e.getBoundingClientRect().right >"
        " document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 90))"
    )
    assert browser.value(outside) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_scheme_of_the_system_is_followed(page: Any, site: Path, scheme: str) -> None:
    browser = page(site, "index.html", scheme=scheme)
    style = "getComputedStyle(document.body)"
    brightness = {
        name: sum(browser.value(f"{style}.{name}.match(/\\d+/g).slice(0, 3).map(Number)"))
        for name in ("color", "backgroundColor")
    }
    assert (brightness["color"] > brightness["backgroundColor"]) == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("place", PAGES)
def test_axe_finds_nothing_serious(
    page: Any, site: Path, axe: str, place: str, width: int, scheme: str
) -> None:
    browser = page(site, place, width, scheme)
    browser.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    if place == "tiny/table1.html":
        browser.value(
            "document.querySelectorAll('.tools label').forEach(l =>"
            " l.textContent.startsWith('shade') && l.querySelector('input').click())"
        )
    browser.value(axe)
    browser.value("axe.run(document, {preload: false}).then(r => { window.axeFound = r; }); null")
    browser.until("window.axeFound !== undefined")
    assert browser.value("axeFound.passes.length") > 10
    found = browser.value(
        "axeFound.violations.map(v => [v.impact, v.id, v.nodes.slice(0, 3).map(n => n.html)])"
    )
    assert [one for one in found if one[0] in ("serious", "critical")] == []


def test_a_missing_script_is_said(browser: Browser, site: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "site/tiny/samples/table1/index.js").unlink()
    browser.open(tmp_path / "site/tiny/table1.samples.html")
    browser.until("document.getElementById('status').textContent.includes('cannot be read')")
