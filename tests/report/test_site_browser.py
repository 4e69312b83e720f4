"""Every page of the site in a browser, at the width of a desk and of a phone: what a reader must be able to see."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from browsing import opened, skip_without_browser
from made_up import ROOT
from selenium import webdriver

from gapscope.report import site

skip_without_browser()
pytestmark = pytest.mark.integration

SCREENS = {1400: 1.5, 390: 2.0}  # width in px -> within how many screens the first figure begins
HEIGHT = 900  # px of a screen, as `opened` makes it
SMALLEST = 12  # px of a text in a figure
ROUNDING = 0.1  # px that scaling a figure to whole pixels takes off a text
LOOK = """
const seen = document.documentElement.clientWidth, wrong = [], first = document.querySelector("figure");
if (document.documentElement.scrollWidth > seen) wrong.push("the page scrolls sideways");
if (first && first.getBoundingClientRect().top + scrollY > arguments[0]) wrong.push("the first figure comes late");
for (const box of document.querySelectorAll(".box")) {
  const shadowed = getComputedStyle(box).backgroundImage.split("linear-gradient").length > 4;
  if (box.scrollWidth > box.clientWidth && !(shadowed && getComputedStyle(box).overflowX === "auto")) {
    wrong.push("a box is cut without a sign");
  }
}
for (const part of document.querySelectorAll("p, h1, h2, h3, li, td, th, caption, figcaption, summary, svg")) {
  const box = part.getBoundingClientRect();
  if (box.width && (box.right > seen + 1 || box.left < -1) && !part.closest(".box, pre")) {
    wrong.push(`cut: ${part.tagName} ${part.textContent.slice(0, 40)}`);
  }
}
for (const text of document.querySelectorAll("svg text")) {
  const svg = text.ownerSVGElement, scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  const size = parseFloat(getComputedStyle(text).fontSize) * scale;
  if (size < arguments[1]) wrong.push(`text of ${size.toFixed(1)} px: ${text.textContent}`);
}
return [...new Set(wrong)];
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    out = tmp_path_factory.mktemp("site")
    built = site.build(out, ROOT / "metrics", ROOT / "plots", ROOT / "conf/study")
    return {path.stem: path for path in built}


def faults(browser: webdriver.Chrome, path: Path, width: int) -> list[str]:
    """Return what a page complains of, asks for, and does not show well."""
    said = opened(browser, path, width)
    seen: list[Any] = browser.execute_script(LOOK, SCREENS[width] * HEIGHT, SMALLEST - ROUNDING)  # type: ignore[no-untyped-call]
    return [*said, *seen]


@pytest.mark.parametrize("width", SCREENS)
def test_every_page_shows_all_that_it_has(browser: webdriver.Chrome, pages: Mapping[str, Path], width: int) -> None:
    found = {name: faults(browser, path, width) for name, path in pages.items()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("width", SCREENS)
def test_each_planted_fault_is_found(
    browser: webdriver.Chrome, pages: Mapping[str, Path], tmp_path: Path, width: int
) -> None:
    text = re.sub("<meta http-equiv.*?>", "", pages["table05"].read_text(encoding="utf-8"))
    plants = {
        "sideways": "<div style='width: 3000px'>wide</div>",
        "late": "<style>header { padding-bottom: 2000px }</style>",
        "without a sign": "<style>.box { background: none !important }</style>",
        "cut: P": "<style>body { overflow-x: hidden }</style><p style='width: 3000px; max-width: none'>wide</p>",
        "text of": "<style>svg text { font-size: 8px !important }</style>",
        "planted": "<script>console.error('planted')</script>",
    }
    for fault, wrong in plants.items():
        path = tmp_path / "planted.html"
        path.write_text(text.replace("</main>", f"{wrong}</main>"), encoding="utf-8")
        assert any(fault in found for found in faults(browser, path, width)), fault
