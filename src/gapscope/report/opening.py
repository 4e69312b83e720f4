"""What a study's page opens with: the question that the study asks, what was run, and the answer in plain words.

All of it is made of the study's params and its table of claims, so that it fits studies that nobody has thought of.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope import measures, papers
from gapscope.claims.claim import REMOVED, Claim
from gapscope.claims.hypothesis_tests import ENOUGH
from gapscope.claims.wording import evidence
from gapscope.drawing import names, numbers
from gapscope.records.tables import read_table
from gapscope.report import question

Row = Mapping[str, Any]

LEADS = {  # verdict -> the answer to the question
    "supported": "Yes.",
    "contradicted": "No.",
    "no effect": "No.",
    "by construction": "Only by construction.",
    "undecided": "Undecided.",
    "not comparable": "Not comparable.",
    "not tested": "Not tested.",
    "not testable": "Not testable.",
}
SAID = {  # verdict -> what a sentence about the claim says of it, if not "is VERDICT"
    "no effect": "shows no effect",
    "by construction": "holds by construction",
}
FAMILIES = ("primary", "exploratory", "secondary")
SENTENCES = 2


@dataclass(frozen=True)
class Opening:
    """What a page opens with.

    Attributes:
        question: its title.
        run: what was run.
        sentences: the answer.
        measure: the one whose figure comes first.
    """

    question: str
    run: str
    sentences: Sequence[str]
    measure: str

    def in_words(self, said: Callable[[str], str]) -> "Opening":
        """Return it with its texts in the words of another task."""
        return replace(self, question=said(self.question), sentences=[said(of) for of in self.sentences])


def opening(study: str, params: Mapping[str, Any], metrics: Path, claims: Sequence[Row]) -> Opening:
    """Return what a study's page opens with.

    Args:
        study: its name, which is the title where there are no params.
        params: as in metrics/STUDY/params.yaml; they may be empty.
        metrics: folder metrics/STUDY.
        claims: rows of its table of claims.
    """
    asked, measure = question.question(params) or study, question.answering(params)
    cells = measure == "random_matrices" and (metrics / "paper.csv").exists()
    sentences = _cells(read_table(metrics / "paper.csv")) if cells else _answers(claims, measure)
    return Opening(asked, question.run(params), sentences, measure)


def verdict(path: Path) -> str:
    """Return verdict and evidence of the claim that a remedy shrinks the gap; empty where it was not tested.

    Args:
        path: the study's table of claims.
    """
    known = {claim.name: claim for claim in papers.claims()}
    table = read_table(path) if path.exists() else pd.DataFrame({"claim": []})
    for row in table.to_dict("records"):
        claim = known.get(row["claim"])
        if claim and _of_test_error(claim) and (claim.test in ("shrinks", "recovers") or claim.of == "gap"):
            return f"{row['verdict']}: {evidence(row)}"
    return ""


def _answers(claims: Sequence[Row], measure: str) -> list[str]:
    """Return the first claims that answer the question, as sentences; of a study with many networks one of each."""
    known = {claim.name: claim for claim in papers.claims()}
    chosen: list[Row] = []
    for asked in _asked(measure):
        rows = [row for family in FAMILIES for row in claims if row["family"] == family and row["claim"] in known]
        chosen += [row for row in rows if asked(known[row["claim"]], row) and row["verdict"] != "not testable"]
    first = {(row["model"], row["dataset"]): row for row in reversed(chosen)}
    if len(first) > 1:
        said = [f"{names.pair(*pair)}: {_sentence(row, lead=True)}" for pair, row in reversed(first.items())]
        return [sentence[0].upper() + sentence[1:] for sentence in said]
    shown = list({row["statement"]: row for row in chosen}.values())[:SENTENCES]
    return [_sentence(row, lead=not turn) for turn, row in enumerate(shown)]


def _asked(measure: str) -> list[Callable[[Claim, Row], bool]]:
    """Return which claims answer the question of a measure, the most direct ones first."""
    if measure in ("evaluation", "warm_start"):
        return [
            lambda claim, _: _of_test_error(claim) and (claim.test in REMOVED or claim.over != "batch_size"),
            lambda claim, _: _of_test_error(claim) and claim.test == "rises",
            lambda claim, row: (
                claim.measured.quantity in ("cross_entropy", "sharpness_pct") and row["family"] != "secondary"
            ),
        ]
    quantities = measures.MEASURES[measure].QUANTITIES
    return [
        lambda claim, row: claim.measured.quantity in quantities and row["family"] != "secondary",
        lambda claim, _: claim.measured.quantity in quantities,
    ]


def _of_test_error(claim: Claim) -> bool:
    measured = claim.measured
    split = measured.where.get("split")
    return (
        measured.quantity == "error_pct" and split == "test" and claim.compared_with is None and claim.of != "largest"
    )


def _sentence(row: Row, *, lead: bool) -> str:
    """Return a claim's verdict as a sentence."""
    reason = str(row["why"]).partition("; ")[0]
    effect = f"{numbers.effect(row)}; " if row["effect"] is not None else ""
    n = "" if reason.startswith("n = ") or row["verdict"] in ("not testable", "not comparable") else f", n = {row['n']}"
    said = f"“{row['statement']}”"
    verdict = SAID.get(row["verdict"], f"is {row['verdict']}")
    begin = f"{LEADS[row['verdict']]} {said}" if lead else f"{said} {verdict}"
    return " ".join(filter(None, (f"{begin}: {effect}{reason}{n}.", at_odds(row))))


def _cells(printed: pd.DataFrame) -> list[str]:
    """Return how many printed values agree with the measured ones."""
    if "verdict" not in printed:
        return []
    known = printed[printed["verdict"] != "not measured"]
    off = known[known["verdict"] == "off"]
    first = f"{len(off)} of {len(known)} printed cells disagree with what was measured."
    if off.empty:
        return [first]
    tables = ", ".join(f"{count} in Table {name}" for name, count in off.groupby("table").size().items())
    nearest, farthest = (numbers.number(pick(off["difference_se"].abs()), 3) for pick in (min, max))
    fitting = int(off["fits"].fillna("").ne("").sum())
    moved = f" {fitting} of them agree with what another matrix of these tables gives." if fitting else ""
    return [f"{first} They are off by {nearest} to {farthest} standard errors: {tables}.{moved}"]


@functools.cache
def _of_stated_values() -> frozenset[str]:
    return frozenset(claim.name for claim in papers.claims() if claim.value is not None or claim.test == "u_shaped")


def at_odds(row: Row) -> str:
    """Return why an interval seems to contradict its verdict, where it does; else nothing.

    The interval is of the change between the smallest and the largest level, at 95 %, and not corrected. A claim that
    states a value is not about a change, and no change is not what its interval is compared with.
    """
    decided = row["verdict"] in ("supported", "contradicted", "undecided", "no effect")
    if not decided or row["effect_low"] is None or row["claim"] in _of_stated_values():
        return ""
    nothing = 1.0 if row["effect_unit"] == "times" else 0.0
    holds = float(row["effect_low"]) <= nothing <= float(row["effect_high"])
    if row["verdict"] in ("supported", "contradicted"):
        return "The interval is of the two ends alone. The tests use all levels." if holds else ""
    if holds:
        return ""
    if row["verdict"] == "no effect":
        return f"There is a change, but it is shown to be smaller than {row['margin']}." if row.get("margin") else ""
    if row["n"] < ENOUGH:
        return f"Fewer than {ENOUGH} seeds decide nothing, whatever the interval."
    return "The interval (95 %, not corrected) excludes no change. The test is stricter, and it decides."
