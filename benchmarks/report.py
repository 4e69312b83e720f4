"""How long a study's page takes, from its committed records alone: `python benchmarks/report.py`, which needs no torch.

Prints a table and writes benchmarks/report.md: the stage's whole command, start of Python included, median of three.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from gapscope.runtime import cores

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 3


def seconds(study: str, out: Path) -> float:
    """Return the wall seconds of one run of the stage."""
    command = [sys.executable, "stages/report.py", "--study", study, "--settings", f"conf/study/{study}.yaml"]
    command += ["--metrics", f"metrics/{study}", "--plots", f"plots/{study}"]
    command += ["--verdicts", f"metrics/claims/{study}.csv", "--out", str(out)]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Run the benchmark."""
    out = Path(__file__).with_suffix(".html")
    lines = [
        "# A page of a study, from its records",
        "",
        f"{cores()} cores, nothing beside; wall seconds, the median of {REPEATS}. Target: under 5 s without torch.",
        "",
        "| study | figures | s |",
        "|---|---|---|",
    ]
    for study in sorted(path.stem for path in (ROOT / "reports").glob("*.html")):
        taken = median(seconds(study, out) for _ in range(REPEATS))
        figures = out.read_text(encoding="utf-8").count("<figure")
        lines.append(f"| {study} | {figures} | {taken:.1f} |")
        print(lines[-1], flush=True)
    out.unlink()
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
