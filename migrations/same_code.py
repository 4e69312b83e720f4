"""Collect from git's history which versions of a stage's code were proved to give the same numbers.

`verified/code.csv` holds the last proof of each stage and case alone. Each of its committed versions is read with the
cases of its commit, and what it shows goes to `verified/same_code.csv`, which `gapscope verify` has kept since.

    python -m migrations.same_code
"""

import csv
import io
from typing import Any

import yaml

from gapscope.engine.proofs.cases import CASES
from gapscope.git import git
from gapscope.records import proofs


def main() -> None:
    """Read every committed version of the code proofs."""
    for commit in git("log", "--reverse", "--format=%h", "--", str(proofs.CODE)).split():
        cases: dict[str, list[str]] = {}
        for name, case in yaml.safe_load(git("show", f"{commit}:{CASES}"))["cases"].items():
            for stage in case.get("stages", ()):
                cases.setdefault(stage, []).append(name)
        table = csv.DictReader(io.StringIO(git("show", f"{commit}:{proofs.CODE}")))
        rows = [proofs.CodeProof(**_typed(row)) for row in table]
        proofs.write_same_code(proofs.same_code(rows, cases))


def _typed(row: dict[str, str]) -> dict[str, Any]:
    return row | {
        "revision": int(row["revision"]),
        "numbers": int(row["numbers"]),
        "largest_difference": float(row["largest_difference"]),
    }


if __name__ == "__main__":
    main()
