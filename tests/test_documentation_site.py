"""The documentation site: MkDocs finds nothing wrong, all studies are in it, and it loads nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADED = (
    re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//", re.IGNORECASE),
    re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", re.IGNORECASE),
)


def loads_from_elsewhere(text: str) -> bool:
    return any(pattern.search(text) for pattern in LOADED)


@pytest.mark.parametrize(
    "text",
    [
        '<script defer src="https://cdn.example/a.js">',
        "<link rel=stylesheet href=//fonts.example/b.css>",
        "@font-face { src: url(https://fonts.example/c.woff2) }",
        '@import "https://fonts.example/d.css";',
    ],
)
def test_a_planted_address_is_found(text: str) -> None:
    assert loads_from_elsewhere(text)
    assert not loads_from_elsewhere(text.replace("https:", "").replace("//", "assets/"))


@pytest.mark.integration
def test_it_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".css", ".svg")]
    assert [path for path in pages if loads_from_elsewhere(path.read_text(encoding="utf-8"))] == []
    for page in (
        "index.html",
        "sharpness.html",
        "reference/library.html",
        "studies/index.html",
        "studies/table05.html",
    ):
        assert (tmp_path / page).is_file(), page
    assert "<math" in (tmp_path / "sharpness.html").read_text(encoding="utf-8")
