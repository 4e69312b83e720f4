"""The pages of docs/: their sections, examples, params, names, links and columns are those of the repository.

Each check takes a page's text and returns what is wrong with it, so that a planted fault shows that it can fail.
"""

import csv
import functools
import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MEASURES = re.findall(r"^- \[.+?\]\((.+?)\): .+$", (DOCS / "README.md").read_text(), re.MULTILINE)
PAGES = sorted(DOCS / name for name in MEASURES)  # the pages of measures; guides have no fixed sections
SECTIONS = ["The quantity", "Open in the paper", "Chosen here", "Cost", "Known bias and limits", "Example"]
PARAMS = yaml.safe_load((ROOT / "conf/config.yaml").read_text())
SUFFIXES = ("csv", "json", "jsonl", "md", "npz", "py", "yaml")
TABLE = "| file | columns and quantities | what |\n|---|---|---|\n"  # of files under metrics/STUDY/
LEAST, MOST = 60, 120  # lines

Check = Callable[[str], list[str]]


def misplaced_sections(text: str) -> list[str]:
    """Return the page's headings where they are not the sections, each once and in order."""
    found = re.findall(r"^## (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return [] if found == SECTIONS else [*found, "no section"]


def no_equation(text: str) -> list[str]:
    """Return what the page's first section lacks: the equation of its quantity."""
    quantity = text.partition(f"## {SECTIONS[0]}\n")[2].partition("\n## ")[0]
    return [] if re.search(r"^\$\$.+\$\$$", quantity, re.MULTILINE | re.DOTALL) else ["no equation"]


def failing_blocks(text: str) -> list[str]:
    """Return what the Python blocks raise, run one after the other in one namespace; a page needs one."""
    blocks, namespace = re.findall(r"```python\n(.*?)```", text, re.DOTALL), dict[str, Any]()
    try:
        for block in blocks:
            exec(compile(block, "docs", "exec"), namespace)
    except Exception as error:  # whatever a block raises is the finding
        return [repr(error)]
    return [] if blocks else ["no Python block"]


def quoted(text: str) -> list[str]:
    """Return what stands in single backticks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def unknown_params(text: str) -> list[str]:
    """Return `group.name`, and `name` after the word param, that conf/config.yaml does not declare."""
    dotted = [word.split("=")[0] for word in quoted(text) if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+(=.*)?", word)]
    named = [word for word in dotted if not word.endswith(SUFFIXES) and not word.startswith("gapscope.")]
    unknown = [name for name in named if not is_param(name)]
    return unknown + [name for name in re.findall(r"param\s`(\w+)`", text) if name not in PARAMS]


def is_param(name: str) -> bool:
    """Say whether conf/config.yaml declares a dotted name."""
    found: Any = PARAMS
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return False
        found = found[part]
    return True


def unresolved_names(text: str) -> list[str]:
    """Return `gapscope.module.name` that does not lead to an object."""
    names = [word for word in quoted(text) if word.startswith("gapscope.")]
    modules = re.findall(r"^from (gapscope\S*) import", text, re.MULTILINE)
    return [name for name in [*names, *modules] if not resolves(name)]


def resolves(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def dead_links(text: str) -> list[str]:
    """Return relative links, and quoted paths, to nothing; STUDY is any committed study."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = [word for word in quoted(text) if re.match(r"(metrics|conf|stages|benchmarks|src|tests|plots)/", word)]
    dead = [link for link in links if not (DOCS / link).exists()]
    return dead + [path for path in paths if not list(ROOT.glob(path.replace("STUDY", "*").rstrip("/")))]


def unknown_columns(text: str) -> list[str]:
    """Return files of the page's table that no committed study has, and what none of them has as a column.

    A quantity of a long table counts as a column, and so does a key of a JSON object. RUN stands for a part of a file's
    name.
    """
    if TABLE not in text:
        return ["no table of columns"]
    unknown = []
    for row in text.split(TABLE)[1].split("\n\n", maxsplit=1)[0].splitlines():
        (file,), columns = (quoted(cell) for cell in row.strip("| ").split(" | ")[:2])
        known = columns_of(file)
        unknown += [f"{file}: {name}" for name in columns if name not in known]
        unknown += [] if columns and known else [f"{file}: nothing"]
    return unknown


@functools.cache  # many pages name the same large tables
def columns_of(file: str) -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "metrics").glob("*/" + re.sub(r"[A-Z]{2,}", "*", file)):
        if path.suffix == ".csv":
            with path.open(newline="") as lines:
                head = next(csv.reader(lines), [])  # of a study without such rows the file is empty
                found |= set(head)
                if "quantity" in head:
                    found |= {row[head.index("quantity")] for row in csv.reader(lines)}
        elif path.suffix == ".json":
            found |= set(keys(json.loads(path.read_text())))
        else:  # JSON lines: a header, then rows of one form
            with path.open() as lines:
                found |= {key for line in (next(lines), next(lines)) for key in keys(json.loads(line))}
    return found


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys(part)


CHECKS: tuple[Check, ...] = (
    misplaced_sections,
    no_equation,
    failing_blocks,
    unknown_params,
    unresolved_names,
    dead_links,
    unknown_columns,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page: Path, check: Check) -> None:
    assert check(page.read_text()) == []


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", DOCS / "library.md", DOCS / "layerwise.md"], ids=lambda page: page.stem
)
def test_the_examples_of_a_guide_run(page: Path) -> None:
    assert failing_blocks(page.read_text()) == []


@pytest.mark.parametrize(
    ("check", "old", "new"),
    [
        (misplaced_sections, "## Cost\n", "## Costs\n"),
        (misplaced_sections, "## Cost\n", ""),
        (misplaced_sections, "## Cost\n", "## Known bias and limits\n"),
        (no_equation, "$$", "$"),
        (failing_blocks, "assert ", "assert not "),
        (failing_blocks, "```python\n", "```sh\n"),
        (unknown_params, "`sharpness.restarts`", "`sharpness.starts`"),
        (unknown_params, "`sharpness.restarts`", "`sharp.restarts`"),
        (unknown_params, "`sharpness.restarts`", "`train.schedule.restarts`"),
        (unknown_params, "`sharpness.restarts`", "`sharpness.starts=3`"),
        (unknown_params, "`sharpness.restarts`", "the param `restarts`"),
        (unresolved_names, "## Cost\n", "`gapscope.numerics.loss_surface.sharpness.keskar`\n"),
        (unresolved_names, "## Cost\n", "`gapscope.measure.sharp`\n"),
        (unresolved_names, "from gapscope.numerics.loss_surface.manifold", "from gapscope.measure.manifolds"),
        (dead_links, "../benchmarks/sharpness.md", "../benchmarks/sharp.md"),
        (dead_links, "## Cost\n", "`metrics/STUDY/sharp/`\n"),
        (unknown_columns, "`weight_norm` |", "`weights_norm` |"),
        (unknown_columns, "`sharpness_pct`, `split`", "`sharpness`, `split`"),
        (unknown_columns, "`sharpness/RUN.json`", "`sharpness/RUN.csv`"),
        (unknown_columns, "| file | columns", "| files | columns"),
    ],
)
def test_a_planted_fault_is_found(check: Check, old: str, new: str) -> None:
    text = (DOCS / "sharpness.md").read_text()
    assert old in text
    assert check(text.replace(old, new)) != []


def test_every_page_can_be_read_at_one_sitting() -> None:
    for page in PAGES:
        assert LEAST <= len(page.read_text().splitlines()) <= MOST, page.name


def test_the_contents_lead_to_every_page() -> None:
    listed = set(re.findall(r"\]\((\w+\.md)", (DOCS / "README.md").read_text()))
    assert listed == {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert "](docs/README.md)" in (ROOT / "README.md").read_text()
