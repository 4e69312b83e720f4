"""The sentences of a table of claims: why a verdict is what it is, and what a reader has to take care of."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from gapscope.claims import hypothesis_tests
from gapscope.claims.testing import Finding
from gapscope.drawing.numbers import number


def verdict(finding: Finding, p_for: float, p_against: float, level: float) -> tuple[str, str]:
    """Return a verdict and its reason.

    Args:
        finding: what the test found.
        p_for: corrected p value in the claim's direction.
        p_against: corrected p value in the opposite direction.
        level: at or below which a p value is significant.
    """
    if finding.n < hypothesis_tests.ENOUGH:
        return "undecided", f"n = {finding.n}: fewer than {hypothesis_tests.ENOUGH} seeds decide nothing"
    if finding.outcome.why:
        return "undecided", finding.outcome.why
    if p_for <= level:
        return "supported", f"significant, corrected p = {number(p_for, 2)}"
    if p_against <= level:
        return "contradicted", f"significant in the opposite direction, corrected p = {number(p_against, 2)}"
    if finding.one_way:
        return "undecided", f"not significant, corrected p = {number(p_for, 2)}; the opposite direction is not tested"
    nearer = p_against if finding.p_against < finding.p_for else p_for
    return "undecided", f"not significant, corrected p = {number(nearer, 2)}"


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


def several_devices(runs: pd.DataFrame) -> str:
    """Return which levels were trained on which devices; empty if all were on one."""
    if "device" not in runs or runs["device"].nunique() < 2:
        return ""
    column, name = ("batch_size", "b") if "batch_size" in runs else ("start_epoch", "start")
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
