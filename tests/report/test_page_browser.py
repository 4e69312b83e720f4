"""The page in a browser, from disk, with the network off, on a desk and on a phone; each check can fail."""

import base64
import re
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browsing import opened, skip_without_browser
from made_up import CLAIMS, study
from selenium import webdriver

from gapscope import measures
from gapscope.report.page import page

WIDTHS = (1280, 390)
STUDY = "keskar_table3"  # it has the most kinds of figures

skip_without_browser()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return page(**study(folder, STUDY, CLAIMS))


@pytest.fixture(scope="module")
def whole(folder: Path, text: str) -> Path:
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


def misplaced(browser: webdriver.Chrome) -> list[str]:
    """Return the figures that are not seen, and the page if it is too wide.

    A phone shows a figure in its natural size, in a box that scrolls; a desk shows it whole.
    """
    return browser.execute_script(  # type: ignore[no-untyped-call, no-any-return]
        """
        const width = document.documentElement.clientWidth, wrong = [];
        if (Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) > width) wrong.push("page");
        for (const figure of document.querySelectorAll("figure")) {
          const box = figure.querySelector(width < 800 ? ".box" : "svg").getBoundingClientRect();
          if (box.width < 100 || box.height < 50 || box.left < 0 || box.right > width) wrong.push(figure.id);
        }
        return wrong;
        """
    )


def hovered(browser: webdriver.Chrome, figure: str, panel: int, series: str, x: float) -> str:
    """Point at a series' value at x in a panel, with the mouse; return what the page says then."""
    place: dict[str, Any] = browser.execute_script(  # type: ignore[no-untyped-call]
        """
        const panel = document.querySelectorAll(`#${arguments[0]} .points`)[arguments[1]];
        const points = [...panel.querySelectorAll(".p")];
        const point = points.find((p) => p.dataset.series === arguments[2] && Number(p.dataset.x) === arguments[3]);
        point.scrollIntoView({ block: "center", inline: "center" });
        const box = point.getBoundingClientRect();
        return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
        """,
        figure, panel, series, x,
    )  # fmt: skip
    for left in (0, place["x"]):
        event = {"type": "mouseMoved", "x": left, "y": place["y"] if left else 0}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    return browser.execute_script(  # type: ignore[no-untyped-call, no-any-return]
        "const tip = document.getElementById('tip'); return tip.hidden ? '' : tip.textContent"
    )


def wrong_values(browser: webdriver.Chrome, folder: Path) -> list[str]:
    """Return the values of the figure `gap` that pointing at them does not tell as its table has them."""
    rows = pd.read_csv(folder / f"plots/{STUDY}/gap.csv")
    wrong = []
    panels = list(dict.fromkeys(rows["panel"]))
    for (panel, series, size), runs in rows.groupby(["panel", "series", "batch_size"]):
        low, high = (f"{end:.6g}" for end in (runs["value"].min(), runs["value"].max()))
        values = {str(series): f"{runs['value'].mean():.6g}" + (f" (range: {low} to {high})" if low != high else "")}
        if low != high:
            seeds = zip(runs["seed"], runs["value"], strict=True)
            values |= {f"{series}, seed {seed:.0f}": f"{value:.6g}" for seed, value in seeds}
        for name, value in values.items():
            told = hovered(browser, "gap", panels.index(panel), name, float(str(size)))
            expected = f"{name}; training batch size b = {size}; "
            line = next((line for line in told.splitlines() if line.startswith(expected)), "")
            if not line.endswith(f"; {panel} = {value}"):
                wrong.append(f"{expected}: {told!r}")
    return wrong


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_opens_from_disk_without_a_word_and_asks_for_nothing(
    browser: webdriver.Chrome, whole: Path, width: int
) -> None:
    assert opened(browser, whole, width) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_is_seen_and_the_page_does_not_scroll_sideways(
    browser: webdriver.Chrome, whole: Path, width: int
) -> None:
    opened(browser, whole, width)
    assert misplaced(browser) == []
    drawn = {path.stem for path in (whole.parent / f"plots/{STUDY}").glob("*.csv")}
    shown = browser.execute_script("return [...document.querySelectorAll('figure')].map((f) => f.id)")  # type: ignore[no-untyped-call]
    names = [figure.name for name in measures.names() for figure in measures.figures(name) if figure.name in drawn]
    assert shown == sorted(names, key=lambda name: name != "sharpness")  # which answers the page's question


@pytest.mark.parametrize("width", WIDTHS)
def test_pointing_at_a_value_tells_it_as_the_table_has_it(browser: webdriver.Chrome, whole: Path, width: int) -> None:
    opened(browser, whole, width)
    assert wrong_values(browser, whole.parent) == []


def test_on_a_phone_a_figure_can_be_seen_whole_and_the_page_stays(browser: webdriver.Chrome, whole: Path) -> None:
    opened(browser, whole, 390)
    width = "return document.querySelector('#gap svg').getBoundingClientRect().width"
    assert browser.execute_script(width) > 390  # type: ignore[no-untyped-call]
    browser.execute_script("document.querySelector('#gap input').click()")  # type: ignore[no-untyped-call]
    assert browser.execute_script(width) < 390  # type: ignore[no-untyped-call]
    assert misplaced(browser) == []


def test_the_arrow_keys_step_through_a_panel(browser: webdriver.Chrome, whole: Path) -> None:
    opened(browser, whole, 1280)
    told = []
    browser.execute_script("document.querySelector('.points').focus()")  # type: ignore[no-untyped-call]
    for _ in range(2):
        for kind in ("rawKeyDown", "keyUp"):
            key = {"type": kind, "key": "ArrowRight", "code": "ArrowRight", "windowsVirtualKeyCode": 39}
            browser.execute_cdp_cmd("Input.dispatchKeyEvent", key)
        told.append(browser.execute_script("return document.getElementById('tip').textContent"))  # type: ignore[no-untyped-call]
    assert all(told)
    assert told[0] != told[1]


def test_without_the_script_the_titles_are_the_browser_s_own(text: str) -> None:
    static = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert static.count("</title></circle>") == static.count("<circle") > 100


def test_verdicts_are_words_and_tables_scroll_in_their_own_box(browser: webdriver.Chrome, whole: Path) -> None:
    opened(browser, whole, 390)
    words = browser.execute_script("return [...document.querySelectorAll('.verdict')].map((v) => v.innerText.trim())")  # type: ignore[no-untyped-call]
    assert words == ["✔ supported", "? undecided", "✘ contradicted"]
    wide = "return [...document.querySelectorAll('.box')].some((b) => b.scrollWidth > b.clientWidth)"
    assert browser.execute_script(wide)  # type: ignore[no-untyped-call]


def pages(browser: webdriver.Chrome) -> int:
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def test_it_prints(browser: webdriver.Chrome, whole: Path) -> None:
    opened(browser, whole, 1280)
    figures = browser.execute_script("return document.querySelectorAll('figure').length")  # type: ignore[no-untyped-call]
    assert 3 < pages(browser) < 2 * figures


UNGUARDED = re.compile(r"<meta http-equiv.*?>")


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_planted_is_found(
    browser: webdriver.Chrome, text: str, folder: Path, tmp_path: Path, width: int
) -> None:
    path = tmp_path / "planted.html"

    def planted(wrong: str) -> list[str]:
        path.write_text(UNGUARDED.sub("", text).replace("</main>", f"{wrong}</main>"), encoding="utf-8")
        return opened(browser, path, width)

    assert any("example.com" in found for found in planted("<img src='https://example.com/a.png' alt=''>"))
    assert any("planted" in found for found in planted("<script>console.error('planted')</script>"))
    assert planted("<div style='width: 3000px'>wide</div>") == []
    assert misplaced(browser) == ["page"]
    planted("<style>#gap { display: none } #curves svg { width: 4000px; max-width: none }</style>")
    assert sorted(misplaced(browser)) == (["curves", "gap"] if width > 800 else ["gap"])
    path.write_text(re.sub(r"(error \(%\) = \d+\.\d)", r"\g<1>1", text), encoding="utf-8")
    opened(browser, path, width)
    assert wrong_values(browser, folder)


def test_the_page_s_own_policy_keeps_it_from_the_network(browser: webdriver.Chrome, text: str, tmp_path: Path) -> None:
    path = tmp_path / "guarded.html"
    path.write_text(text.replace("</main>", "<img src='https://example.com/a.png' alt=''></main>"), encoding="utf-8")
    said, since = opened(browser, path, 1280), time.monotonic()
    while not said and time.monotonic() < since + 10:  # the browser's log lags behind its page
        time.sleep(0.05)
        said = [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]
    assert "Content Security Policy" in " ".join(said)
