"""The verdicts that the present code gives on the committed records, beside those of an earlier commit.

    python verified/verdicts.py [--against COMMIT] [--write]

For every study whose claims COMMIT has, the claims are tested on the records in the working tree. Each entry of the
earlier table, `metrics/claims/STUDY.csv`, is looked up by its claim, axes, network and data set. Verdict, n, levels and
unit must be the same; effect, interval and both p values must agree to the digits that the records keep. An entry that
one side lacks is a difference too, unless it is "not testable", a verdict that did not exist then. `--write` writes the
comparison to verified/verdicts.csv. A difference ends with exit status 1.
"""

import argparse
import io
import math
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

sys.path.append(str(Path(__file__).parents[1]))
from gapscope import papers
from gapscope.claims import verdicts
from gapscope.claims.evidence import Evidence
from gapscope.records.tables import write_table
from migrations import runs as migrated
from migrations.plain_names import plain

ROOT = Path(__file__).parents[1]
OUT = ROOT / "verified/verdicts.csv"
AGAINST = "54c90e6"  # the last commit with wide tables
SAME = ("verdict", "n", "levels", "effect_unit")
CLOSE = ("effect", "effect_low", "effect_high", "p", "p_corrected")
TOLERANCE = 1e-8  # relative: records keep 10 significant digits, so that a difference of two may lose two of them
# an earlier claim's name: the claim, and the threshold or box size that its twin had
TWIN = re.compile(r"(?P<name>\w+?)(_(?P<value>1e-5|5e-4))?")
AXES = {"1e-5": "threshold", "5e-4": "epsilon"}
FIRST = {"threshold": 1e-4, "epsilon": 1e-3}  # what a claim without such an ending was tested at
CLAIMED = {claim.name: {*claim.each, *claim.first} for claim in papers.claims()}  # claim -> axes that it is tested at
Key = tuple[str, float, float, str, str]


def evidence(study: str) -> Evidence:
    """Return a committed study's values and runs; wide tables are converted."""
    tables = dict(migrated.tables(ROOT / "metrics" / study))
    values = tables["runs" if "runs" in tables else "warmstart"]
    if "curvature" in tables:  # once tables of runs are long, they hold it themselves
        more = tables["curvature"]
        values = pd.concat([values, more[~more["quantity"].isin(values["quantity"])]], ignore_index=True)
    return Evidence(values, tables["cells"])


def present(study: str) -> pd.DataFrame:
    """Return the verdicts of the present code on a study's committed records."""
    params = yaml.safe_load((ROOT / "metrics" / study / "params.yaml").read_text(encoding="utf-8"))["claims"]
    settings = verdicts.ClaimSettings(**params)
    return verdicts.evaluate(papers.claims(), evidence(study), evidence(settings.reference), settings)


def earlier(study: str, commit: str) -> pd.DataFrame:
    """Return the committed verdicts of an earlier commit."""
    return pd.read_csv(io.StringIO(plain(_git("show", f"{commit}:metrics/claims/{study}.csv"))))


def old_key(row: Mapping[Any, Any]) -> Key:
    """Return what an entry of the earlier table is about: claim, threshold, epsilon, model, data set.

    In a wide table the threshold or box size is in the claim's name, unless it is the first one.
    """
    if "paper" in row:
        return new_key(row)
    found = TWIN.fullmatch(str(row["claim"]))
    name, value = (found["name"], found["value"]) if found else (str(row["claim"]), None)
    at = {axis: FIRST[axis] if axis in CLAIMED.get(name, ()) else math.nan for axis in FIRST}
    if value:
        at[AXES[value]] = float(value)
    return new_key({**row, **at, "claim": name})


def new_key(row: Mapping[Any, Any]) -> Key:
    """Return what an entry of the present table is about."""
    at = [_number(row.get(axis, math.nan)) for axis in FIRST]
    return str(row["claim"]), at[0], at[1], str(row["model"]), str(row["dataset"])


def compare(old: pd.DataFrame, new: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row per entry of either table: both verdicts, the largest difference, and whether they are equal."""
    then = {old_key(row): row for row in old.to_dict("records") if row["verdict"] != "not testable"}
    now = {new_key(row): row for row in new.to_dict("records") if row["verdict"] != "not testable"}
    return [_compared(key, then.get(key), now.get(key)) for key in dict.fromkeys([*then, *now])]


def _compared(key: Key, old: Any, new: Any) -> dict[str, Any]:
    claim, threshold, epsilon, model, dataset = key
    row: dict[str, Any] = {"claim": claim, "threshold": threshold or None, "epsilon": epsilon or None}
    row |= {"model": model, "dataset": dataset}
    if old is None or new is None:
        missing = "before" if old is None else "now"
        return {**row, "equal": False, "differs": f"not there {missing}"}
    differs = [name for name in SAME if _text(old[name]) != _text(new[name])]
    distances = {name: _distance(old[name], new[name]) for name in CLOSE}
    differs += [name for name, distance in distances.items() if not distance <= TOLERANCE]
    row |= {"verdict_before": old["verdict"], "verdict_now": new["verdict"]}
    row |= {"p_corrected_before": old["p_corrected"], "p_corrected_now": new["p_corrected"]}
    return {**row, "largest_difference": max(distances.values()), "equal": not differs, "differs": " ".join(differs)}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).replace(" less ", " minus ")  # the levels of a gap, in earlier words


def _number(value: Any) -> float:
    """A number that equals itself: 0 for an axis that the claim does not have."""
    return 0.0 if pd.isna(value) else float(value)


def _distance(old: Any, new: Any) -> float:
    """The relative difference of two numbers, the new one as a table keeps it; 0 where neither is there."""
    if pd.isna(old) or pd.isna(new):
        return 0.0 if pd.isna(old) and pd.isna(new) else math.inf
    new = float(f"{new:.10g}")
    return 0.0 if old == new else abs(old - new) / max(abs(old), abs(new))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def main() -> int:
    """Compare all studies; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default=AGAINST, metavar="COMMIT", help=f"default: {AGAINST}")
    parser.add_argument("--write", action="store_true", help=f"write {OUT.relative_to(ROOT)}")
    args = parser.parse_args()
    listed = _git("ls-tree", "--name-only", f"{args.against}:metrics/claims").split()
    rows = [
        {"study": study} | row
        for study in (Path(name).stem for name in listed)
        for row in compare(earlier(study, args.against), present(study))
    ]
    different = [row for row in rows if not row["equal"]]
    for row in different:
        print(f"{row['study']}: {row['claim']} {row['threshold'] or row['epsilon'] or ''}: {row['differs']}")
    print(f"{len(rows)} entries of {len(listed)} studies, {len(different)} different from {args.against}")
    if args.write:
        write_table(OUT, [row | {"against": args.against} for row in rows])
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
