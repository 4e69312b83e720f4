"""Collect from git's history which versions of a stage's code were proved to give the same numbers.

`verified/code.csv` holds the last proof of each stage and case alone. Each of its committed versions is read with the
cases of its commit, and what it shows goes to `verified/same_code.csv`, which `gapscope verify` has kept since.

    python -m migrations.same_code
"""

import tempfile
from pathlib import Path

from gapscope.engine.proofs import cases
from gapscope.git import git
from gapscope.records import proofs


def main() -> None:
    """Read every committed version of the code proofs."""
    with tempfile.TemporaryDirectory() as folder:
        for commit in git("log", "--reverse", "--format=%h", "--", str(proofs.CODE)).split():
            code, known = (Path(folder, path.name) for path in (proofs.CODE, cases.CASES))
            for path, source in ((code, proofs.CODE), (known, cases.CASES)):
                path.write_text(git("show", f"{commit}:{source}"))
            rows = proofs.read_rows(code, proofs.CodeProof)
            proofs.write_same_code(proofs.same_code(rows, cases.by_stage(cases.read_cases(path=known))))


if __name__ == "__main__":
    main()
