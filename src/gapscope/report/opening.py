"""What a study's page opens with: the question that the study asks, what was run, and the answer in plain words.

All of it is made of the study's params and its table of claims, so that it fits studies that nobody has thought of.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope import measures, papers
from gapscope.claims.claim import REMOVED, Claim
from gapscope.claims.hypothesis_tests import ENOUGH
from gapscope.claims.wording import evidence
from gapscope.drawing import names, numbers
from gapscope.records.cells import WIDENED
from gapscope.records.tables import read_table

Row = Mapping[str, Any]

PLAIN = "Does {who} lose accuracy at large batch?"
REMEDY = "Does {remedy} close the large-batch gap of {who}?"
REMEDIES = {  # arm -> what is done about the gap
    "equal_updates": "making as many updates at every batch size",
    "longer": "longer training",
    "tuned_rate": "a learning rate tuned for each batch size",
    "scaled_rate": "a learning rate that grows with the batch size",
    "switching": "switching to a small batch",
    "width": "a wider network",
    "warmstart": "a small-batch start",
    "warmup": "a learning rate that rises at first",
    "discarding": "discarding samples of small loss",
    "discarding_control": "a control of discarding",
    "first_epoch": "a first epoch at a small batch and rate",
    "first_epoch_control": "one part of such a first epoch",
    "layerwise": "a learning rate for each layer",
    "mclr": "MCLR",
}
OTHERWISE = {  # arm whose claim is not about the gap -> its question, and the measure that answers it
    "warmup": (
        "Does a learning rate that rises at first make the curvature of the layers of {who} more alike?",
        "curvature_radius",
    ),
}
QUESTIONS = (  # measure that a study takes, its question, and the measure that answers it; the first one counts
    ("random_matrices", "Do the printed tables of random matrices hold?", "random_matrices"),
    ("landscape", "Does {who} end in sharper minima at large batch?", "sharpness"),
    ("near_rank", PLAIN, "evaluation"),
    ("gradient_law", "Does the mean gradient of {who} shrink with the batch size as noise would?", "gradient_law"),
    ("curvature_radius", "Does |w/g| order the layers of {who} by their curvature?", "curvature_radius"),
    ("sharpness", "Does {who} end in sharper minima at large batch?", "sharpness"),
)
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
    text, measure = _question(params)
    who = _who(params)
    question = text.format(who=who) if who or "{who}" not in text else study
    cells = measure == "random_matrices" and (metrics / "paper.csv").exists()
    sentences = _cells(read_table(metrics / "paper.csv")) if cells else _answers(claims, measure)
    return Opening(question, _run(params), sentences, measure)


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


def arm(params: Mapping[str, Any]) -> str:
    """Return what a study changes besides the batch size: its param `claims.arm`."""
    return str((params.get("claims") or {}).get("arm", "plain"))


def answering(params: Mapping[str, Any]) -> str:
    """Return the measure that answers a study's question."""
    return _question(params)[1]


def _question(params: Mapping[str, Any]) -> tuple[str, str]:
    """Return a study's question with a place for its networks, and the measure that answers it."""
    taken = params.get("measures", ())
    if (changed := arm(params)) in OTHERWISE:
        return OTHERWISE[changed]
    if changed != "plain":
        remedy = REMEDIES.get(changed, changed.replace("_", " "))
        return REMEDY.replace("{remedy}", remedy), "warm_start" if "warm_start" in taken else "evaluation"
    return next(((text, answers) for name, text, answers in QUESTIONS if name in taken), (PLAIN, "evaluation"))


def _who(params: Mapping[str, Any]) -> str:
    """Return the networks and data sets of a study, in words."""
    if not params.get("models"):
        return ""
    models = dict.fromkeys(found["name"] if (found := WIDENED.fullmatch(name)) else name for name in params["models"])
    return f"{networks(models, params)} on {names.listed(map(names.dataset, params['datasets']))}"


def networks(models: Iterable[str], params: Mapping[str, Any]) -> str:
    """Return networks with what a study's params change of them, in words."""
    train = params.get("train") or {}
    variants = [
        "linear throughout" if train.get("average_pooling") and train.get("linear_units") else "",
        "with linear units" if train.get("linear_units") and not train.get("average_pooling") else "",
        "without batch norm" if train.get("batch_norm") is False else "",
    ]
    return " ".join([names.listed(map(names.network, models)), *filter(None, variants)])


def _run(params: Mapping[str, Any]) -> str:
    """Return what was run, in words; empty where no network is trained at batch sizes."""
    sizes = sorted(set(params.get("batch_sizes", ())))
    if not sizes:
        return ""
    count, epochs = len(params["seeds"]), params["epochs"]
    batches = f"batch sizes {sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"batch size {sizes[0]}"
    return f"{batches}, {count} seed{'s' if count > 1 else ''}, {epochs} epoch{'s' if epochs > 1 else ''}"


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
    n = "" if reason.startswith("n = ") or row["verdict"] == "not testable" else f", n = {row['n']}"
    said = f"“{row['statement']}”"
    begin = f"{LEADS[row['verdict']]} {said}" if lead else f"{said} is {row['verdict']}"
    return f"{begin}: {effect}{reason}{n}."


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
