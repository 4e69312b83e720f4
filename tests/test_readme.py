"""README.md and docs/: their commands, params, paths and links exist, and their numbers are what the script fills in.

No sentence is compared with anything: words are free.
"""

import re
import shlex
import tomllib
from pathlib import Path

import fill_tables
import pytest
import torch
import yaml

from gapscope import cli
from gapscope.models import MODELS, OF_TOKENS, ModelSpec, build

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (README, *sorted((ROOT / "docs").glob("*.md")))}
PARAMS = yaml.safe_load((ROOT / "conf/config.yaml").read_text())
MADE = {"examples/noisy_digits.npz"}  # by examples/make_data.py
OPEN = ("data.files", "code.models")  # groups of names that a reader chooses
FILLED = re.compile(r"(<!-- ?\w+ ?-->)(.*?)(<!-- ?(?:end|/) ?-->)", re.DOTALL)  # a table, or a number in a sentence


def commands_of(text: str) -> list[list[str]]:
    """Return the words of each line in the page's shell blocks, without comments and `uv run`."""
    lines = [
        line.split("  #")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", text.replace("\\\n", " "), re.DOTALL)
        for line in block.splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return [shlex.split(re.sub(r"^uv run ", "", line)) for line in lines]


def is_param(override: str) -> bool:
    """Say whether conf/ declares what `name=value` or `group.name=value` sets; `+` adds one, to open groups only."""
    *groups, name = override.removeprefix("+").partition("=")[0].split(".")
    place = PARAMS
    for group in groups:
        if group not in place:
            return False
        place = place[group]
    return ".".join(groups) in OPEN if override.startswith("+") else name in place


def files_given(text: str) -> set[str]:
    """Return the files that the page itself gives."""
    return set(re.findall(r"<!-- file: (\S+) -->", text))


def faults(text: str) -> list[str]:
    """Return what the page's commands name and what is not there: paths, commands, options, studies, params.

    A file that the page itself gives, below `<!-- file: PATH -->`, is there.
    """
    given = files_given(text)
    found = []
    for words in commands_of(text):
        found += [
            word
            for word in words
            if re.fullmatch(r"(stages|conf|src|tests|docs|benchmarks|examples)/\S+\.\w+", word)
            and not ((ROOT / word).exists() or word in given | MADE)
        ]
        if words[0] == "gapscope":
            try:
                cli.parser().parse_args(words[1:])
            except SystemExit:
                found.append(shlex.join(words))
        if words[0] in ("gapscope", "dvc"):
            overrides = [word for word in words if re.match(r"\+?[a-z_.]+=", word)]
            found += [word for word in overrides if not is_param(word)]
    studies = [name for name in re.findall(r"study=(\w+)", text) if f"conf/study/{name}.yaml" not in given]
    return found + [f"study {name}" for name in studies if not is_study(name)]


def is_study(name: str) -> bool:
    return name in ("mine", "NAME") or (ROOT / f"conf/study/{name}.yaml").exists()  # those two: the reader's own


def anchors(page: Path) -> set[str]:
    """Return what links to the page's headings end in, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def dead_links(page: Path, text: str) -> list[str]:
    dead, given = [], files_given(text)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        if file.relative_to(ROOT).as_posix() in given:
            continue
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            dead.append(f"{target}#{anchor}")
    return dead


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_what_a_page_names_is_there(page: Path) -> None:
    assert faults(page.read_text()) == []
    assert dead_links(page, page.read_text()) == []


@pytest.mark.parametrize(
    "planted",
    [
        "```sh\npython stages/trian.py --out data\n```\n",
        "```sh\ngapscope rum quick\n```\n",
        "```sh\ngapscope run quick --jbos 2\n```\n",
        "```sh\nuv run dvc exp run -S bacth_size=2048\n```\n",
        "```sh\ndvc exp run -S train.schedule.lr_strat=0.2\n```\n",
        "```sh\ndvc exp run -S train.lr_start=0.2\n```\n",
        "```sh\ndvc exp run -S +train.mine=1\n```\n",
        "`study=tabel05`\n",
        "[page](docs/nosuch.md)\n",
        "[page](docs/sharpness.md#nosuch)\n",
        "[heading](#nosuch)\n",
    ],
)
def test_a_planted_fault_is_found(planted: str) -> None:
    assert [*faults(planted), *dead_links(README, planted)] != []


def test_the_readme_shows_the_three_uses_of_dvc_and_the_pages_every_command() -> None:
    shown = [" ".join(words) for words in commands_of(README.read_text())]
    for command in ("dvc repro", "dvc exp run -S batch_size=2048", "dvc plots diff"):
        assert any(words.startswith(command) for words in shown), command
    everywhere = [words for page in PAGES.values() for words in commands_of(page.read_text())]
    commands = {module.__name__.split(".")[-1] for module in cli.COMMANDS}
    assert commands <= {words[1] for words in everywhere if words[0] == "gapscope"}


def test_every_study_is_named() -> None:
    text = "".join(page.read_text() for page in PAGES.values())
    assert [path.stem for path in (ROOT / "conf/study").glob("*.yaml") if f"`{path.stem}`" not in text] == []


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_are_what_the_script_fills_in() -> None:
    for page in fill_tables.PAGES:
        assert page.read_text() == fill_tables.filled(page.read_text()), page.name
    marked = [page for page in PAGES.values() if FILLED.search(page.read_text())]
    assert {page.resolve() for page in marked} <= {page.resolve() for page in fill_tables.PAGES}
    shown = "".join(page.read_text() for page in marked)
    assert [name for name in fill_tables.MADE if f"<!-- {name} -->" not in shown] == []


@pytest.mark.parametrize("page", fill_tables.PAGES, ids=lambda page: page.name)
def test_numbers_that_are_changed_by_hand_are_put_back(page: Path) -> None:
    text = page.read_text()
    changed = FILLED.sub(lambda found: found[1] + re.sub(r"\d", "7", found[2]) + found[3], text)
    assert (changed != text) == bool(FILLED.search(text))
    assert fill_tables.filled(changed) == text


def test_the_table_of_networks_is_that_of_the_code() -> None:
    text = "".join(page.read_text() for page in PAGES.values())
    (table,) = [found for found in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE) if "| `lenet5` | 6-16" in found]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]
    listed = {name: row for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert set(listed) == set(MODELS)
    for name, row in listed.items():
        shape = tuple(int(side) for side in row[2].split(" x "))
        counts = []
        tokens = name in OF_TOKENS
        classes = 1973 if name == "f2" else 256 if tokens else 10
        for batch_norm in (True,) if tokens else (True, False):
            with torch.device("meta"):
                model = build(ModelSpec(name, shape, classes, batch_norm, tokens=tokens))
            counts.append(f"{sum(p.numel() for p in model.parameters()):,}")
        assert row[3] == " / ".join(counts), name


def test_the_licence_and_citation_agree_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert project["license"] in (ROOT / "LICENSE").read_text().splitlines()[0]
