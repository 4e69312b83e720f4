"""Random matrices: means with standard errors, beside the bounds of Proposition 2 and the printed Tables A1-A3."""

from importlib.resources import files
from typing import Any

import pandas as pd

# A printed value is off when it lies further than this from the measured mean, in standard errors of the difference:
# the printed value is a mean too, of 100 matrices (section A1.2), so it has the standard error that such a mean has
# here. By chance alone one in 350 sets of 45 values would hold one that is off.
OFF = 4.0
PRINTED_STEP = 1e-4  # Tables A1-A3 print four decimals
PAPER_REPETITIONS = 100  # section A1.2: "we use t = 100"


def printed() -> pd.DataFrame:
    """Return Tables A1-A3 of Oyedotun et al. 2022 as printed; `note` marks what is lost in the text that was read."""
    with (files("gapscope.papers.oyedotun2022") / "random_matrices.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def beside(paper: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Return the printed tables with what was measured, and a verdict on each value.

    Args:
        paper: `printed`.
        measured: of `measures.random_matrices.means`.

    Returns:
        The printed columns; `mean`, `standard_error` and `repetitions` measured; `difference` printed - mean, and in
        standard errors of the difference; `verdict`: agrees, off (beyond `OFF`) or not measured; `fits`: for a value
        that is off, the measured law and shape that it agrees with best, if it agrees with any.
    """
    rows = []
    for _, line in paper.iterrows():
        same = (measured["law"] == line["law"]) & (measured["m"] == line["m"]) & (measured["n"] == line["n"])
        row = {str(name): value for name, value in line.rename({"sigma_min": "printed"}).items()}
        away = differences(line["sigma_min"], measured)
        if not same.any():
            rows.append({**row, "repetitions": 0, "verdict": "not measured"})
            continue
        here, z, nearest = measured[same].iloc[0], away[same].iloc[0], int(away.abs().argmin())
        off, fit = abs(z) > OFF, measured.iloc[nearest]
        fits = f"{fit['law']} {fit['m']} x {fit['n']}" if off and abs(away.iloc[nearest]) <= OFF else ""
        row |= {"mean": here["sigma_min_mean"], "standard_error": here["sigma_min_se"]}
        row |= {"repetitions": here["repetitions"], "difference": line["sigma_min"] - here["sigma_min_mean"]}
        rows.append({**row, "difference_se": z, "verdict": "off" if off else "agrees", "fits": fits})
    return pd.DataFrame(rows)


def differences(value: float, measured: pd.DataFrame) -> pd.Series:
    """Return how far a printed value lies from each measured mean, in standard errors of the difference.

    The paper's mean is taken to be of `PAPER_REPETITIONS` matrices of the same spread, and rounded.
    """
    own = measured["sigma_min_se"] ** 2
    theirs = own * measured["repetitions"] / PAPER_REPETITIONS + PRINTED_STEP**2 / 12
    return (value - measured["sigma_min_mean"]) / (own + theirs) ** 0.5


def markdown(rows: pd.DataFrame) -> str:
    """Return `beside` as a Markdown table."""
    lines = [
        "| table | law | matrix | printed E σ_min | measured ± standard error (s.e.) | difference in s.e. | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for _, row in rows.iterrows():
        about = f"| {row['table']} | {row['law']} | {row['m']} x {row['n']} | {row['printed']:.4f} "
        if row["verdict"] == "not measured":
            lines.append(f"{about}| | | not measured |")
            continue
        verdict = f"**off**{': fits ' + row['fits'] if row['fits'] else ''}" if row["verdict"] == "off" else "agrees"
        value = f"{row['mean']:.4f} ± {row['standard_error']:.4f}"
        lines.append(f"{about}| {value} | {row['difference_se']:+.1f} | {verdict} |")
    n = " or ".join(f"{count:g}" for count in sorted(set(rows["repetitions"]) - {0}))
    return "\n".join(lines) + (
        f"\n\nMeasured: n = {n} matrices each. Off: more than {OFF:g} standard errors of the difference, in which the"
        f" printed mean has the spread measured here and {PAPER_REPETITIONS} matrices. Fits: the measured matrix whose"
        " value the printed one is, within as many.\n"
    )


def summary(rows: pd.DataFrame, perturbed: pd.DataFrame) -> dict[str, Any]:
    """Return the figures that `dvc metrics` lists: printed cells by verdict, means by table, eq. 5's violations."""
    tree: dict[str, Any] = {"printed_cells": {v: int((rows["verdict"] == v).sum()) for v in ("agrees", "off")}}
    for table, group in rows[rows["verdict"] != "not measured"].groupby("table"):
        tree[f"table_{table}"] = {f"{r['m']}x{r['n']}": float(f"{r['mean']:.6g}") for _, r in group.iterrows()}
    full = perturbed["samples"] >= perturbed["units"]
    for name, part in (("b_at_least_h", perturbed[full]), ("b_below_h", perturbed[~full])):
        counts = {"violated": "violations", "violated_smallest": "violations_smallest", "of": "repetitions"}
        tree[f"eq5_{name}"] = {key: int(part[column].sum()) for key, column in counts.items()}
    return tree
