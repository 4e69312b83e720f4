"""What the documentation site has beyond the pages of docs/: MkDocs calls these functions.

- its contents: those of README.md;
- the files outside docs/ that a page links to, at their own paths;
- pages of reference, made from docstrings;
- equations, as MathML, which browsers draw by themselves;
- the studies' pages, as `gapscope site` writes them.
"""

import re
from itertools import count
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

from gapscope.report import site

ROOT = Path(__file__).parents[1]
STUDIES = "studies"  # folder of the site
OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)")
LISTED = re.compile(r"^(?:\| |- )\[(.+?)\]\((\w+\.md)\)", re.MULTILINE)
CODE_OR_MATH = re.compile(
    r"^```.*?^```|`[^`\n]+`|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$", re.DOTALL | re.MULTILINE
)
REFERENCE = {  # page -> what it documents: functions and classes by their names, modules with what they hold
    "Library": (
        *("gapscope.library.sharpness.sharpness", "gapscope.library.sharpness.SharpnessResult"),
        *("gapscope.library.near_rank.near_rank", "gapscope.library.near_rank.NearRankResult"),
        *("gapscope.library.spectra.spectra", "gapscope.library.spectra.SpectraResult"),
        *("gapscope.library.hessian.hessian", "gapscope.library.hessian.HessianResult"),
        *("gapscope.library.noise_scale.noise_scale", "gapscope.library.noise_scale.NoiseScaleResult"),
        *("gapscope.library.study.load", "gapscope.library.study.StudyResult"),
        "gapscope.library.objective.Objective",
    ),
    "Extension points": (
        *("gapscope.tasks.task.Task", "gapscope.tasks.task.Batch"),
        *("gapscope.training.observers.Observer", "gapscope.optim.fused.FusedOptimizer"),
        *("gapscope.measures", "gapscope.measures.quantity.Quantity", "gapscope.claims.claim"),
    ),
    "Training": ("gapscope.training.loop.train", "gapscope.training.objective.Objective", "gapscope.optim"),
    "Numerics": ("gapscope.numerics",),
}
WORDS_ALONE = ("gapscope.measures", "gapscope.claims.claim")  # the module's docstring says all that a user writes

_equations: dict[str, str] = {}  # what stands for an equation in a page -> the equation
_number = count()


def on_config(config: Any) -> Any:
    """Take the site's contents from those of README.md."""
    text = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    guides, measures = (
        [{title: page} for title, page in LISTED.findall(part)] for part in text.split("## The measures")
    )
    reference = [{title: _page(title)} for title in REFERENCE]
    config.nav = [{"Contents": "README.md"}, {"Guides": guides}, {"Measures": measures}, {"Reference": reference}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the files outside docs/ that pages link to, and the pages of the reference."""
    pages = [file.content_string for file in files.documentation_pages()]
    for path in sorted({path for text in pages for path in OUTSIDE.findall(text)}):
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    for title, listed in REFERENCE.items():
        text = "\n\n".join([f"# {title}", *map(_documented, listed)])
        files.append(File.generated(config, _page(title), content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at the files that were added, name the studies' pages, and put a word in each equation's place."""
    markdown = OUTSIDE.sub(r"](\1", markdown)
    if page.file.src_uri == "README.md":
        markdown += f'\n## Results, study by study\n\n<a href="{STUDIES}/index.html">All studies with results</a>\n'
    return CODE_OR_MATH.sub(_set_aside, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Put the equations back, as MathML."""
    return re.sub(r"equation\d+x", lambda found: _equations[found[0]], html)


def on_post_build(config: Any) -> None:
    """Write the studies' pages into the site."""
    site.build(Path(config.site_dir, STUDIES), ROOT / "metrics", ROOT / "plots", ROOT / "conf/study")


def _documented(name: str) -> str:
    options = "{members: false, show_submodules: false}" if name in WORDS_ALONE else "{show_root_full_path: false}"
    return f"::: {name}\n    options: {options}"


def _page(title: str) -> str:
    return f"reference/{title.lower().replace(' ', '_')}.md"


def _set_aside(found: re.Match[str]) -> str:
    equation = found["block"] or found["inline"]
    if not equation:
        return found[0]  # code
    word = f"equation{next(_number)}x"
    math = convert(equation.strip(), display="block" if found["block"] else "inline")
    _equations[word] = f'<span class="equation">{math}</span>' if found["block"] else math
    return word
