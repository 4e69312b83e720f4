"""A page of a committed study, and claims that nobody makes."""

import csv
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

CLAIM = {
    "claim": "gap", "statement": "Large batches generalise worse.", "source": "Nobody 2000, section 1", "model": "f1",
    "dataset": "mnist", "quantity": "test_error_pct", "test": "Welch's t-test", "n": 5, "levels": "128 ... 8192",
    "effect": 1.25, "effect_low": 0.5, "effect_high": 2.0, "effect_unit": "percentage points", "p": 0.001,
    "p_corrected": 0.018, "verdict": "supported", "why": "The interval lies above 0.", "also": "", "caution": "",
}  # fmt: skip
CLAIMS: list[dict[str, Any]] = [
    CLAIM,
    {**CLAIM, "dataset": "cifar10", "verdict": "undecided", "effect_low": -1.0, "p": 0.4, "p_corrected": 1.0}
    | {"why": "The interval holds 0, and n = 5 is too few to exclude an effect of one point."},
    {
        **CLAIM,
        "claim": "flat",
        "caution": "A box <is> no ball.",
        "statement": "Flat minima are <always> better & safe.",
        "verdict": "contradicted",
    }
    | {"effect": -250000.0, "effect_low": "", "effect_high": "", "p": "", "p_corrected": "", "effect_unit": ""}
    | {"why": "The sign is the other one."},
]


def study(folder: Path, name: str, claims: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Copy a committed study's results, without their pictures, and return the arguments of its page."""
    metrics, plots = folder / "metrics" / name, folder / "plots" / name
    shutil.copytree(ROOT / "metrics" / name, metrics, ignore=shutil.ignore_patterns("*.jsonl"))
    shutil.copytree(ROOT / "plots" / name, plots, ignore=shutil.ignore_patterns("*.png"))
    shutil.copytree(ROOT / "provenance" / name, folder / "provenance" / name)
    verdicts = folder / "metrics/claims" / f"{name}.csv"
    verdicts.parent.mkdir(parents=True)
    if claims is not None:
        with verdicts.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(CLAIM), lineterminator="\n")
            writer.writeheader()
            writer.writerows(claims)
    paths = {"metrics": metrics, "plots": plots, "settings": ROOT / f"conf/study/{name}.yaml", "verdicts": verdicts}
    return {"study": name, **paths}
