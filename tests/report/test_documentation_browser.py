"""The documentation site in a browser, at the width of a desk and of a phone: nothing is cut, nothing is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest
from browsing import opened, skip_without_browser
from made_up import ROOT
from selenium import webdriver

skip_without_browser()
pytestmark = pytest.mark.integration

LOOK = """
const seen = document.documentElement.clientWidth, wrong = [];
const scrolls = "nav, pre, .md-typeset__scrollwrap, .equation, .md-header, .md-search";
if (document.documentElement.scrollWidth > seen) wrong.push("the page scrolls sideways");
for (const part of document.querySelectorAll("article :is(p, h1, h2, h3, li, table, img, math)")) {
  const box = part.getBoundingClientRect();
  if (box.width && (box.right > seen + 1 || box.left < -1) && !part.closest(scrolls)) {
    wrong.push(`cut: ${part.tagName} ${part.textContent.slice(0, 40)}`);
  }
}
for (const box of document.querySelectorAll("article :is(.md-typeset__scrollwrap, .equation)")) {
  const shadowed = getComputedStyle(box).backgroundImage.split("linear-gradient").length > 4;
  if (box.scrollWidth > box.clientWidth && !shadowed) wrong.push("a box is cut without a sign");
}
return wrong;
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    subprocess.run(command, cwd=ROOT, check=True)
    return sorted([*out.glob("*.html"), *out.glob("reference/*.html")])


def faults(browser: webdriver.Chrome, page: Path, width: int) -> list[str]:
    """Return what a page complains of, asks for outside its folder, and does not show whole."""
    own = page.parent.parent if page.parent.name == "reference" else page.parent
    said = [line for line in opened(browser, page, width) if not line.startswith((own.as_uri(), "data:", "blob:"))]
    return said + list(browser.execute_script(LOOK))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("width", [1400, 390])
def test_every_page_is_shown_whole(browser: webdriver.Chrome, pages: list[Path], width: int) -> None:
    found = {page.name: faults(browser, page, width) for page in pages if page.stem != "404"}  # which no file links to
    assert len(found) > 30
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    ("fault", "planted"),
    [
        ("sideways", "<div style='width: 3000px'>wide</div>"),
        ("cut: P", "<p style='width: 3000px'>wide</p>"),
        (
            "without a sign",
            "<span class='equation' style='background: none'><math style='width: 3000px'></math></span>",
        ),
        ("example.com", "<img src='https://example.com/a.png'>"),
    ],
)
def test_each_planted_fault_is_found(browser: webdriver.Chrome, pages: list[Path], fault: str, planted: str) -> None:
    page = next(page for page in pages if page.stem == "sharpness")
    text = page.read_text(encoding="utf-8")
    path = page.with_name("planted.html")
    path.write_text(text.replace("</article>", f"{planted}</article>"), encoding="utf-8")
    try:
        assert any(fault in found for found in faults(browser, path, 1400))
    finally:
        path.unlink()
