"""Every committed verdict of 0.1 beside that of the present tests, with the reason for each change.

`verified/verdicts.csv` has the verdicts of 54c90e6, the last commit of 0.1. The code of 0.2 gave the same ones while it
had the same tests. Since then the tests have changed, and the runs have not. Only the study `quick` has other runs now,
and is left out.
"""

import functools
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd
from facts.records import ROOT
from facts.words import table as markdown

from gapscope.claims.claim import CORRECTED
from gapscope.claims.wording import SIGNS
from gapscope.records.long import axis_text

EARLIER = ROOT / "verified/verdicts.csv"
AXES = ("threshold", "epsilon")
KEY = ("study", "claim", "model", "dataset", *AXES)
CORRELATIONS = ("near_rank_with_train_loss", "near_rank_with_train_cross_entropy", "excess_with_train_loss")
NEW = {  # verdicts that 0.1 did not have
    "not comparable": "the runs are from different kinds of device",
    "by construction": "most of the change is there without training",
    "not tested": "a control of a claim that is not supported",
    "no effect": "an equivalence test decides",
}
LEVEL = 0.02  # `claims.level` of all studies
VERDICTS = ("supported", "contradicted", "undecided")  # of 0.1


@functools.cache
def both() -> pd.DataFrame:
    """Return one row per entry of 0.1 that is still there: `before`, and the present row's columns."""
    earlier = pd.read_csv(EARLIER).rename(columns={"verdict_before": "before"})[[*KEY, "before"]]
    earlier = earlier[earlier["study"] != "quick"]
    paths = [ROOT / f"metrics/claims/{study}.csv" for study in sorted(set(earlier["study"]))]
    present = pd.concat([pd.read_csv(path).assign(study=path.stem) for path in paths], ignore_index=True)
    return earlier.fillna(dict.fromkeys(AXES, 0.0)).merge(
        present.fillna(dict.fromkeys(AXES, 0.0)), on=list(KEY), how="left", validate="one_to_one"
    )


def reason(row: Mapping[Any, Any]) -> str:
    """Return why a verdict is another one than in 0.1."""
    if row["verdict"] in NEW and row["claim"] not in CORRELATIONS:
        return NEW[row["verdict"]]
    if row["claim"] in CORRELATIONS:
        return "tested at equal batch size: what both share through b does not count"
    if row["before"] != "undecided" and row["p_slope"] > LEVEL:
        return "the slope, which may differ between seeds, is not significant"
    if row["before"] == "undecided":
        return "fewer claims share the level" if row["family"] in CORRECTED else "secondary claims are not corrected"
    return "the exact p value is larger, or the family is another one"


def counted() -> str:
    """Return how many verdicts of each kind became which."""
    pairs = Counter((row["before"], row["verdict"]) for row in both().to_dict("records"))
    heads = sorted({now for _, now in pairs}, key=list(SIGNS).index)
    lines = [[before, *(f"{pairs[before, now]}" for now in heads)] for before in VERDICTS]
    return markdown(["in 0.1", *(f"now {now}" for now in heads)], lines)


def reasons() -> str:
    """Return how often each reason stands behind a change."""
    changed = _changed()
    found = Counter(reason(row) for row in changed)
    return markdown(["reason", "verdicts"], [[why, f"{n}"] for why, n in found.most_common()])


def changes() -> str:
    """Return every changed verdict."""
    lines = []
    for row in _changed():
        at = ", ".join(axis_text(row[axis]) for axis in AXES if row[axis])
        n = "" if math.isnan(row["n"]) else f"{row['n']:.0f}"
        name = f"{row['claim']} ({at})" if at else str(row["claim"])
        lines.append([row["study"], name, row["family"], n, row["before"], row["verdict"], reason(row)])
    return markdown(["study", "claim", "family", "n", "in 0.1", "now", "reason"], lines)


def _changed() -> list[dict[Any, Any]]:
    table = both()
    return list(table[table["before"] != table["verdict"]].to_dict("records"))
