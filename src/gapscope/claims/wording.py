"""The sentences of a table of claims: why a verdict is what it is, and what a reader has to take care of."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from gapscope.claims import hypothesis_tests, revisions
from gapscope.claims.claim import CORRECTED
from gapscope.claims.finding import Finding
from gapscope.drawing import numbers
from gapscope.drawing.numbers import number

SIGNS = {  # verdict -> sign
    "supported": "✔",
    "contradicted": "✘",
    "no effect": "≈",
    "by construction": "≡",
    "undecided": "?",
    "not comparable": "≠",
    "not tested": "·",
    "not testable": "\u2013",
}

WITHOUT_P = ("by construction", "not comparable", "not tested", "not testable")  # verdicts that rest on no p value

LEVELS = {"batch_size": "b", "start_epoch": "start", "seed": "seed"}  # how runs on several devices are told apart


def verdict(finding: Finding, p: tuple[float, float, float], level: float, kind: str) -> tuple[str, str]:
    """Return a verdict and its reason.

    Args:
        finding: what the test found.
        p: p values in the claim's direction, in the opposite direction, and for no effect as large as the margin.
        level: at or below which a p value is significant.
        kind: of the p values: corrected or uncorrected.
    """
    p_for, p_against, p_none = p
    if finding.n < hypothesis_tests.ENOUGH:
        return "undecided", f"n = {finding.n}: fewer than {hypothesis_tests.ENOUGH} seeds decide nothing"
    supports = finding.p_for <= finding.p_against
    nearer = p_for if supports else p_against
    significant = nearer <= level and not finding.outcome.why
    p_slope, said = finding.p_slope, f"{kind} p = {number(nearer, 2)}"
    if significant and (p_slope is None or p_slope <= level):
        also = "" if p_slope is None else f"the slope too, p = {number(p_slope, 2)}"
        return "supported" if supports else "contradicted", _joined(
            f"{'significant' if supports else finding.opposite}, {said}", also
        )
    if finding.margin and p_none <= level:
        return "no effect", f"no effect as large as {finding.margin}, {kind} p = {number(p_none, 2)}"
    if finding.outcome.why:
        return "undecided", finding.outcome.why
    if significant and p_slope is not None:
        return (
            "undecided",
            f"the order of the levels is significant, {said}, but not the slope, p = {number(p_slope, 2)}",
        )
    slope = f"the slope alone is, p = {number(p_slope, 2)}" if p_slope is not None and p_slope <= level else ""
    one_way = "the opposite direction is not tested" if finding.one_way else ""
    return "undecided", _joined(f"not significant, {said}", slope, one_way)


def p_value(row: Mapping[Any, Any]) -> str:
    """Return the p value that the verdict of a row of a table of claims rests on; empty where it rests on none.

    Example:
        >>> p_value({"verdict": "no effect", "n": 3, "family": "primary", "p_none": 0.004, "p_none_corrected": 0.016})
        'p = 0.016'
        >>> p_value({"verdict": "supported", "n": 3, "family": "secondary", "p": 0.004, "p_corrected": None})
        'raw p = 0.004'
    """
    if row["verdict"] in WITHOUT_P or row["n"] < hypothesis_tests.ENOUGH:
        return ""
    what = "p_none" if row["verdict"] == "no effect" else "p"
    corrected = row["family"] in CORRECTED
    p = row[f"{what}_corrected"] if corrected else row[what]
    return "" if pd.isna(p) else f"{'' if corrected else 'raw '}p = {number(p, 2)}"


def evidence(row: Mapping[Any, Any], *, effect: bool = True, n: bool = True) -> str:
    """Return what stands beside the sign of a row of a table of claims: effect, slope where it is tested too, p and n.

    Effect and slope have their 95 % intervals.

    Args:
        row: the row.
        effect: False where the effect stands elsewhere.
        n: False where the number of seeds stands elsewhere, such as in a head.
    """
    untested = row["verdict"] in WITHOUT_P or pd.isna(row["p_slope"])
    slope = "" if untested else f"slope {numbers.slope(row, per=False)}"
    parts = [numbers.effect(row) if effect else "", slope, p_value(row), f"n = {row['n']:.0f}" if n else ""]
    return ", ".join(filter(None, parts))


def seeds_needed(needed: int | None) -> str:
    """Return how many seeds would decide, in words."""
    if needed is None:
        return "how many seeds would decide cannot be told, or is more than 100"
    return f"about {needed} seeds would decide if effect and spread stay as they are"


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def seeds(runs: pd.DataFrame) -> str:
    """Return the seeds of runs, as 0-2, 5."""
    listed, found = sorted({int(seed) for seed in runs["seed"]}), list[list[int]]()
    for seed in listed:
        if found and seed == found[-1][-1] + 1:
            found[-1].append(seed)
        else:
            found.append([seed])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in found)


def not_comparable(runs: pd.DataFrame, reference: pd.DataFrame) -> str:
    """Say why runs cannot be compared: different kinds of device, or revisions of the code; empty if they can."""
    reasons = [_kinds_of_device(runs, reference), _revisions(runs, reference)]
    return f"{_joined(*reasons)}: not counted" if any(reasons) else ""


def _kinds_of_device(runs: pd.DataFrame, reference: pd.DataFrame) -> str:
    kinds = {
        revisions.kind_of_device(device)
        for table in (runs, reference)
        if "device" in table
        for device in table["device"].dropna()
    }
    if len(kinds) < 2:
        return ""
    return f"the compared runs were trained on different kinds of device ({', '.join(sorted(kinds))})"


def _revisions(runs: pd.DataFrame, reference: pd.DataFrame) -> str:
    found = revisions.mixed([runs, reference])
    of = "; ".join(f"{stage}: {_listed(numbers)}" for stage, numbers in found.items())
    return f"the compared runs were made by different revisions of the code or kinds of device ({of})" if found else ""


def failed(runs: pd.DataFrame, whose: str = "runs") -> str:
    """Return how many runs are left out, and why; empty if none is."""
    counts = runs.loc[runs["status"] != "ok", "status"].value_counts()
    of = ", ".join(f"{n} {status}" for status, n in counts.items())
    return f"Of {len(runs)} {whose} {of}: left out." if len(counts) else ""


def uncertain(open_runs: pd.Series, runs: pd.DataFrame) -> str:
    """Return in how many of the good runs error bounds leave a count open; empty if in none."""
    used = runs["status"] == "ok"
    count = int((open_runs[runs.index] & used).sum())
    return f"In {count} of {used.sum()} runs the error bounds of singular values leave a count open." if count else ""


def unstated(runs: pd.DataFrame) -> str:
    """Return for how many runs a record does not state the code revision that made it; empty if for none."""
    count = sum(revision is None for made in runs.get("made", ()) for revision in dict(made).values())
    return f"{count} records of these runs do not state their code revision." if count else ""


def several_devices(runs: pd.DataFrame) -> str:
    """Return which levels were trained on which devices; empty if all were on one."""
    if "device" not in runs or runs["device"].nunique() < 2:
        return ""
    column, name = next((column, name) for column, name in LEVELS.items() if column in runs)
    levels = {str(device): sorted(set(of[column])) for device, of in runs.groupby("device")}
    named = "; ".join(f"{name} = {_listed(of)} on {device}" for device, of in levels.items())
    return f"Trained on several devices: {named}. Devices round differently."


def other_devices(runs: pd.DataFrame, reference: pd.DataFrame) -> str:
    """Return where a study's runs and its reference's were trained; empty if on the same devices."""
    if "device" not in runs or "device" not in reference:
        return ""
    ours, theirs = (sorted(set(table["device"].dropna())) for table in (runs, reference))
    named = f"{_listed(ours)}, the reference's on {_listed(theirs)}"
    return (
        "" if ours == theirs else f"Trained on {named}: a seed shares weights and data, but devices round differently."
    )


def joined(sentences: Iterable[str]) -> str:
    """Return sentences one after the other, without the empty ones."""
    return " ".join(filter(None, sentences))


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values))
