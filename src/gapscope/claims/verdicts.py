"""The papers' claims (`claims.yaml`) and what a study's runs say of each: supported, contradicted or undecided.

A claim is supported where the test of `evidence` rejects chance in its direction at `claims.level`, corrected for all
the claims that the study tests; contradicted where it does so in the other direction. What is the same at every level
in each seed is not tested, and decides nothing; nor do fewer than three seeds, whatever they show. An effect stands
beside each verdict, since what is beyond chance may still be small.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import yaml

from gapscope.claims import hypothesis_tests
from gapscope.claims.hypothesis_tests import Array, Effect, Outcome
from gapscope.drawing.numbers import number, signed
from gapscope.errors import InputError, did_you_mean
from gapscope.records.cells import WIDENED

COLUMNS = [
    *("claim", "statement", "source", "model", "dataset", "quantity", "test", "n", "levels"),
    *("effect", "effect_low", "effect_high", "effect_unit", "p", "p_corrected", "verdict", "why", "also", "caution"),
]
TABLES = {"start_epoch": "warmstart"}  # what holds the levels, where it is not the table of runs
RESOLUTIONS = {"values": 1.0, "eigenvalues": 1.0}  # of what is counted
# the part of the reference's gap below which this one has to come
REMOVED = {"shrinks": 1.0, "recovers": 1.0, "removes_half": 0.5}
TOO_FEW = Outcome(1.0, 1.0, 0.0, "fewer than three levels at which all seeds have it: no order", tested=False)
REMEDIES = {"recovers", "removes_half"}  # in which the larger batches themselves have to be better than the reference's


@dataclass(frozen=True)
class ClaimSettings:
    """Params of the claims stage; `conf/config.yaml` says what each is."""

    arm: str
    reference: str
    level: float

    def __post_init__(self) -> None:
        if not 0 < self.level < 0.5:
            raise InputError(f"claims.level must lie between 0 and 0.5, got {self.level}; conf/config.yaml has 0.02")

    def check(self, study: str) -> None:
        """Raise InputError where the arm's gap would be set against itself."""
        if self.reference == study and any(claim.test in REMOVED for claim in load_claims() if claim.arm == self.arm):
            raise InputError(
                f"claims.arm={self.arm} sets this study's gap against another's: claims.reference must name that one"
            )


@dataclass(frozen=True)
class Claim:
    """One claim; `claims.yaml` says what the fields mean."""

    name: str
    statement: str
    source: str
    test: str
    quantity: str
    unit: str
    arm: str = "plain"
    over: str = "batch_size"
    of: str | None = None
    less: str | None = None
    beside: str | None = None
    needs: str | None = None
    ends: bool = False
    one_way: bool = False
    caution: str = ""


@dataclass(frozen=True)
class Finding:
    """What one claim's test found."""

    n: int
    levels: str
    test: str
    effect: Effect
    unit: str
    outcome: Outcome
    sign: int  # +1 where the claim is that the tested value rises
    also: str = ""  # what else is to be known of the effect
    one_way: bool = False  # its contrary is not tested

    @property
    def p_for(self) -> float:
        """One-sided p value in the claim's direction."""
        return self.outcome.p_rises if self.sign > 0 else self.outcome.p_falls

    @property
    def p_against(self) -> float:
        """One-sided p value in the other direction."""
        if self.one_way:
            return 1.0
        return self.outcome.p_falls if self.sign > 0 else self.outcome.p_rises


@cache
def load_claims() -> tuple[Claim, ...]:
    """Return the claims, in the order of the file."""
    text = (files("gapscope.claims") / "claims.yaml").read_text(encoding="utf-8")
    return tuple(Claim(**entry) for entry in yaml.safe_load(text))


def evaluate(tables: Mapping[str, pd.DataFrame], reference: pd.DataFrame, settings: ClaimSettings) -> pd.DataFrame:
    """Return a row a claim, model and data set that a study's tables can test.

    Args:
        tables: `runs`, a row a run, `warmstart`, a row a start; either may be missing or empty.
        reference: the table of runs of the study that `shrinks` and its like compare with.
        settings: params.

    Raises:
        InputError: an arm that no claim belongs to.
    """
    every = load_claims()
    if settings.arm not in {claim.arm for claim in every}:
        arms = list(dict.fromkeys(claim.arm for claim in every))
        raise InputError(f"unknown claims.arm {settings.arm!r}; {did_you_mean(settings.arm, arms)}")
    found: list[tuple[dict[str, Any], Claim, Finding]] = []
    for claim in (claim for claim in every if claim.arm == settings.arm):
        table = tables.get(TABLES.get(claim.over, "runs"), pd.DataFrame())
        columns = {claim.quantity, *filter(None, (claim.less, claim.beside, claim.needs))}
        if table.empty or not columns <= set(table.columns) or (claim.needs and not table[claim.needs].fillna(0).any()):
            continue
        named = table.assign(model=_names(table)) if claim.over == "width" else table
        failed = _failed(named, "runs")
        for (model, dataset), here in _prepared(table, claim).groupby(["model", "dataset"], sort=False):
            about = {"model": model, "dataset": dataset}
            beside = reference[(reference["model"] == model) & (reference["dataset"] == dataset)]
            compared = claim.test in REMOVED
            finding = _difference(claim, here, beside, settings.level) if compared else _trend(claim, here)
            if finding:
                runs = named[(named["model"] == model) & (named["dataset"] == dataset)]
                said = [failed.get((model, dataset)), _unsure(claim, runs), _mixed(runs)]
                if compared:
                    said += [_failed(beside, "runs of the reference").get((model, dataset)), _devices(here, beside)]
                found.append((about | {"said": " ".join(filter(None, said))}, claim, finding))
    tested = sum(finding.outcome.tested for _, _, finding in found)
    p_for = hypothesis_tests.holm([finding.p_for for _, _, finding in found], tested)
    p_against = hypothesis_tests.holm([finding.p_against for _, _, finding in found], tested)
    rows = [
        _row(about, claim, finding, (p_for[i], p_against[i]), settings.level)
        for i, (about, claim, finding) in enumerate(found)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _names(table: pd.DataFrame) -> list[str]:
    """The models' names without their widths."""
    return [match["name"] if (match := WIDENED.fullmatch(name)) else name for name in table["model"]]


def _failed(table: pd.DataFrame, whose: str) -> dict[Any, str]:
    """Model and data set -> how many of their runs are left out, and why, in words."""
    said: dict[Any, str] = {}
    for pair, runs in table.groupby(["model", "dataset"]) if len(table) else ():
        counts = runs.loc[runs["status"] != "ok", "status"].value_counts()
        if len(counts):
            said[pair] = (
                f"Of {len(runs)} {whose} {', '.join(f'{n} {status}' for status, n in counts.items())}: left out."
            )
    return said


def _unsure(claim: Claim, runs: pd.DataFrame) -> str | None:
    """In how many of the runs the errors of singular values leave a count of the claim open, in words."""
    used, names = runs[runs["status"] == "ok"], (claim.quantity, claim.less or "")
    flags = {re.sub(r"_(excess|full|fraction)$", "_undecidable", name) for name in names} & set(used)
    count = int((used[sorted(flags - {*names})] > 0).any(axis=1).sum())
    return f"In {count} of {len(used)} runs the errors of singular values leave a count open." if count else None


def _mixed(runs: pd.DataFrame) -> str | None:
    """Which batch sizes, or warm starts, were trained on which devices, in words, if not all on one."""
    if "device" not in runs or runs["device"].nunique() < 2:
        return None
    column, name = ("batch_size", "b") if "batch_size" in runs else ("start_epoch", "start")
    sizes = {str(device): sorted(set(of[column])) for device, of in runs.groupby("device")}
    named = "; ".join(f"{name} = {', '.join(map(str, of))} on {device}" for device, of in sizes.items())
    return f"Trained on several devices: {named}. Their rounding differs too."


def _devices(*tables: pd.DataFrame) -> str | None:
    """Where an arm's runs and its reference's were trained, in words, if not on the same devices."""
    if any("device" not in table for table in tables):
        return None
    here, there = (sorted(set(table["device"].dropna())) for table in tables)
    named = f"{', '.join(here)}, the reference's on {', '.join(there)}"
    return None if here == there else f"Trained on {named}: seeds share weights and data, not rounding."


def _prepared(table: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    """The runs with the claim's quantity in `value`, its level in `level`; those that failed have neither."""
    value = table[claim.quantity]
    if claim.less:
        value = value / table[claim.less] if claim.unit == "times" else value - table[claim.less]
    table = table.assign(value=value.where(table["status"] == "ok"))
    if claim.over != "width":
        return table.assign(level=table[claim.over])
    widths = [WIDENED.fullmatch(name) for name in table["model"]]
    table = table.assign(level=[float(match["width"]) if match else 1.0 for match in widths], model=_names(table))
    small, large = table["batch_size"].min(), table["batch_size"].max()
    run = ["model", "dataset", "level", "seed"]
    by_size = table.pivot_table(index=run, columns="batch_size", values="value")
    # also where every run of one batch size, or of one seed and width, failed
    by_size = by_size.reindex(columns=[small, large], index=pd.MultiIndex.from_frame(table[run].drop_duplicates()))
    chosen = by_size.iloc[:, 1]
    if claim.of == "gap":
        chosen = chosen - by_size.iloc[:, 0] if small < large else chosen * np.nan
    made: pd.DataFrame = chosen.rename("value").reset_index()
    return made


def _blocks(table: pd.DataFrame, column: str = "value") -> pd.DataFrame:
    """Seeds by levels, of the levels at which no run failed.

    Left out: a seed that lacks a level which another has, unless all do; one of which every run failed.
    """
    whole: pd.DataFrame = table.pivot_table(index="seed", columns="level", values=column, dropna=False)
    run = table.groupby(["seed", "level"]).size().unstack().notna().all(axis=1)
    if run.any():
        whole = whole.loc[run[run].index]
    kept: pd.DataFrame = whole.dropna(how="all").dropna(axis=1)
    return kept


def _trend(claim: Claim, table: pd.DataFrame) -> Finding | None:
    if claim.beside:
        both = table["value"].notna() & table[claim.beside].notna()
        table = table.assign(value=table["value"].where(both), beside=table[claim.beside].where(both))
    blocks = _blocks(table)
    sign = -1 if claim.test == "falls" else 1
    values = blocks.to_numpy(dtype=float)
    n, k = values.shape
    if n < 1 or k < 2:
        return None
    levels = ", ".join(f"{level:g}" for level in blocks)
    generator = np.random.default_rng(0)
    if claim.beside:
        test = f"rank correlation with {claim.beside} within a seed, permutation"
        if k < 3:
            return Finding(n, levels, test, Effect(None), claim.unit, TOO_FEW, sign)
        beside = _blocks(table, "beside").to_numpy(dtype=float)
        outcome = hypothesis_tests.trend(beside, values, generator)
        each = hypothesis_tests.rank_correlations(beside, values)
        effect = hypothesis_tests.interval(each, within=(-1.0, 1.0)) if outcome.tested else Effect(None)
        follows = f"it follows {claim.over} in every seed, so that this is the test whether {claim.beside} rises"
        also = follows if (values[:, 1:] > values[:, :-1]).all() else ""
        return Finding(n, levels, test, effect, claim.unit, outcome, sign, also)
    ends = values[:, [0, -1]]
    ratio = claim.unit == "times" and bool((ends > 0).all())
    unit = claim.unit if ratio or claim.unit != "times" else "as a difference"  # of what is 0 there is no multiple
    change, resolution = _change(ends, ratio), RESOLUTIONS.get(claim.unit, 0.0)
    effect = hypothesis_tests.interval(change, ratio=ratio)
    if k > 2 and not claim.ends:
        outcome = hypothesis_tests.trend(blocks.columns.to_numpy(dtype=float), values, generator)
        test = "Page's trend test, seeds as blocks, permutation"
    else:
        outcome = hypothesis_tests.paired(np.log(change) if ratio else change, resolution)
        test = "paired t test over seeds, last level less first"
    return Finding(n, levels, test, effect, unit, outcome, sign, one_way=claim.one_way)


def _change(ends: Array, ratio: bool) -> Array:
    with np.errstate(invalid="ignore"):  # both infinite
        return ends[:, 1] / ends[:, 0] if ratio else ends[:, 1] - ends[:, 0]


def _difference(claim: Claim, table: pd.DataFrame, reference: pd.DataFrame, level: float) -> Finding | None:
    """The gap in this study against that in the reference, over the batch sizes and seeds that both have."""
    here, there = _blocks(table), _blocks(_prepared(reference, claim)) if len(reference) else pd.DataFrame()
    seeds = here.index.intersection(there.index)
    sizes = sorted(set(here.columns) & set(there.columns))
    if len(sizes) < 2 or not len(seeds):
        return None
    small = [blocks.loc[seeds, sizes[0]].to_numpy(dtype=float) for blocks in (here, there)]
    large = [blocks.loc[seeds, sizes[1:]].mean(axis=1).to_numpy(dtype=float) for blocks in (here, there)]
    gap = large[1] - small[1]
    change = large[0] - small[0] - REMOVED[claim.test] * gap
    less, shown, better = (hypothesis_tests.paired(of) for of in (change, gap, large[0] - large[1]))
    # where there is no gap, nothing can be shrunk: show both; of a remedy, that larger batches get better too
    falls = [less.p_falls, shown.p_rises, *([better.p_falls] if claim.test in REMEDIES else [])]
    outcome = Outcome(
        max(less.p_rises, shown.p_rises), max(falls), less.statistic,
        less.why if shown.p_rises <= level else f"no gap is shown for the reference (p = {number(shown.p_rises, 2)})",
        less.tested and shown.tested,
    )  # fmt: skip
    levels = f"{', '.join(f'{size:g}' for size in sizes[1:])} less {sizes[0]:g}"
    half = "half of " if REMOVED[claim.test] < 1 else ""
    test = f"paired t test over seeds, of the gap less {half}the reference's"
    test += ", and of the larger batches' own change" if claim.test in REMEDIES else ""
    own = [signed((of[0] - of[1]).mean()) for of in (small, large)]
    also = f"own changes: smallest batch {own[0]}, larger ones {own[1]} {claim.unit}"
    return Finding(len(seeds), levels, test, hypothesis_tests.interval(change), claim.unit, outcome, -1, also)


def _row(
    about: Mapping[str, Any], claim: Claim, finding: Finding, corrected: tuple[float, float], level: float
) -> dict[str, Any]:
    against = finding.p_against < finding.p_for
    verdict, why = _verdict(finding, *corrected, level)
    effect = finding.effect
    sign = "/" if claim.unit == "times" else "-"
    quantity = f"{claim.quantity} {sign} {claim.less}" if claim.less else claim.quantity
    return {
        "claim": claim.name,
        "statement": claim.statement,
        "source": claim.source,
        "model": about["model"],
        "dataset": about["dataset"],
        "quantity": {"gap": f"gap of {quantity}"}.get(claim.of or "", quantity),
        "test": finding.test,
        "n": finding.n,
        "levels": finding.levels,
        "effect": effect.mean,
        "effect_low": effect.low,
        "effect_high": effect.high,
        "effect_unit": finding.unit,
        "p": finding.p_against if against else finding.p_for,
        "p_corrected": corrected[against],
        "verdict": verdict,
        "why": why,
        "also": finding.also,
        "caution": " ".join(filter(None, (claim.caution, about["said"]))),
    }


def _verdict(finding: Finding, p_for: float, p_against: float, level: float) -> tuple[str, str]:
    if finding.n < hypothesis_tests.ENOUGH:
        return "undecided", f"n = {finding.n}: fewer than {hypothesis_tests.ENOUGH} seeds decide nothing"
    if finding.outcome.why:
        return "undecided", finding.outcome.why
    if p_for <= level:
        return "supported", f"chance would do this with p = {number(p_for, 2)} at most"
    if p_against <= level:
        return "contradicted", f"the opposite is seen, which chance would do with p = {number(p_against, 2)} at most"
    if finding.one_way:
        return "undecided", f"chance would do as much with p = {number(p_for, 2)}; the contrary is not tested"
    leaning = "the claim's direction" if finding.p_for <= finding.p_against else "the other direction"
    p = number(min(p_for, p_against), 2)
    return "undecided", f"it leans in {leaning}, within what chance does (p = {p})"
