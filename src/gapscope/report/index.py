"""The index of a site: the studies by paper or purpose, each as the question that it asks, with its answer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gapscope import papers
from gapscope.claims.wording import SIGNS
from gapscope.config import read_yaml
from gapscope.report import opening, page, question

PRIMARY = ("primary", "exploratory")  # families whose claims a summary counts
REMEDIES, OWN = "What closes the gap?", "Start here"


def index(names: Sequence[str], metrics: Path) -> str:
    """Return the index page.

    Args:
        names: the studies, in their order.
        metrics: folder of all studies' tables.
    """
    params = {name: _params(metrics / name) for name in names}
    groups = [(title, [_row(name, params[name], metrics) for name in own]) for title, own in _groups(params).items()]
    return page.environment().get_template("index.html.j2").render(groups=groups, remedies=REMEDIES, signs=SIGNS)


def _params(folder: Path) -> Mapping[str, Any]:
    return read_yaml(folder / "params.yaml") if (folder / "params.yaml").exists() else {}


def _groups(params: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the studies by group: remedies, then those of each paper in its order; what is left comes first."""
    found: dict[str, list[str]] = {REMEDIES: [name for name in params if question.arm(params[name]) != "plain"]}
    for paper, item in papers.items():
        if item.study in params and not any(item.study in own for own in found.values()):
            found.setdefault(paper.title, []).append(item.study)
    for name in sorted(set(params) - {name for own in found.values() for name in own}):
        if title := _of_one_paper(question.answering(params[name])):
            found[title].append(name)
    left = sorted(set(params) - {name for own in found.values() for name in own})
    left.sort(key=lambda name: name not in papers.no_evidence())  # the quick study is where to begin
    return {title: own for title, own in {OWN: left, **found}.items() if own}


def _of_one_paper(measure: str) -> str:
    """Return the paper whose claims alone are about a measure; empty where several papers' are."""
    titles = [
        paper.title for paper in papers.PAPERS.values() if any(claim.measure == measure for claim in paper.claims)
    ]
    return titles[0] if len(titles) == 1 else ""


def _row(name: str, params: Mapping[str, Any], metrics: Path) -> dict[str, Any]:
    rows = page.claims(metrics / "claims" / f"{name}.csv")
    opens = opening.opening(name, params, metrics / name, rows).in_words(page.in_words_of(page.words(metrics / name)))
    answer = next(iter(opens.sentences), "No claim about it is tested.")
    return {"name": name, "question": opens.question, "run": opens.run, "answer": answer}
