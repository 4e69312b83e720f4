"""Made-up runs whose verdicts are known.

They are written as wide tables, one row per run and one column per quantity, which are short to write, and tested as
long ones.
"""

from typing import Any

import numpy as np
import pandas as pd

from gapscope import papers
from gapscope.claims.claim import Claim
from gapscope.claims.evidence import Evidence
from gapscope.claims.verdicts import ClaimSettings, evaluate
from migrations import runs as migrated

SIZES = (128, 512, 1024, 2048, 4096, 8192)
MARGINS = {claim.unit: claim.margin for claim in papers.claims() if claim.margin}  # one for each unit, as a test checks
PLAIN = ClaimSettings(arm="plain", reference="made_up", level=0.02)


def made_up(
    rise: float, noise: float, seeds: int, seed: int = 0, sizes: tuple[int, ...] = SIZES, **more: Any
) -> pd.DataFrame:
    """Test error that rises by `rise` from one size to the next, with noise, and an offset of each seed's own."""
    draw = np.random.default_rng(seed)
    rows = []
    for block in range(seeds):
        offset = draw.normal()
        for level, size in enumerate(sizes):
            error = 8 + offset + rise * level + noise * draw.normal()
            rows.append(
                {"model": "lenet5", "dataset": "mnist", "batch_size": size, "seed": block, "status": "ok"}
                | {"test_error_pct": error, **more}
            )
    return pd.DataFrame(rows)


def evidence(table: pd.DataFrame) -> Evidence:
    """Return a wide table as long values and runs; one with `start_epoch` is of warm starts."""
    table = table.reset_index(drop=True)
    if "start_epoch" in table:
        return Evidence(*migrated.long_starts(table.assign(small_batch_size=256, large_batch_size=6000)))
    curvature = [name for name in table if str(name).startswith("hessian_")]
    values, runs = migrated.long_runs(table.drop(columns=curvature))
    keys = ["model", "dataset", "batch_size", "seed"]
    more = migrated.long_curvature(table[[*keys, *curvature]].assign(level=1.0))
    return Evidence(pd.concat([values, more], ignore_index=True) if len(more) else values, runs)


def measurable(found: Evidence) -> tuple[Claim, ...]:
    """Return the claims whose quantities are all there, whatever their axes."""
    known = set(found.values["quantity"]) if len(found.values) else set()
    return tuple(
        claim
        for claim in papers.claims()
        if {of.quantity for of in (claim.measured, claim.compared_with, claim.correlated_with) if of} <= known
    )


def evaluated(table: pd.DataFrame, reference: pd.DataFrame, settings: ClaimSettings = PLAIN) -> pd.DataFrame:
    """Return the rows of claims that were tested."""
    found = evidence(table)
    # an arm without any claim left is not unknown for that
    claims = measurable(found) or papers.claims()
    rows = evaluate(claims, found, evidence(reference) if len(reference) else found, settings)
    return rows[rows["verdict"] != "not testable"]


def verdict(table: pd.DataFrame, claim: str = "test_error_rises", **settings: Any) -> pd.Series:
    """Return the row of one claim."""
    reference = settings.pop("reference_table", table)
    found = evaluated(table, reference, ClaimSettings(**{**vars(PLAIN), **settings}))
    return found.set_index("claim").loc[claim]
