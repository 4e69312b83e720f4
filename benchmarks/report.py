"""How long the site takes, from its committed records alone: `python benchmarks/report.py`, which needs no torch.

Prints a table and writes benchmarks/report.md: the wall seconds of `gapscope site` for one study at a time, with the
start of Python, and for all of them; the median of three.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from gapscope.report import site
from gapscope.runtime import cores

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 3
ALONE = """
import sys
from pathlib import Path
from gapscope.report import site
out, metrics = map(Path, sys.argv[1:])
site.build(out, metrics, Path("plots"), Path("conf/study"))
"""


def seconds(out: Path, metrics: Path) -> float:
    """Return the wall seconds that the site of a folder of studies takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", ALONE, str(out), str(metrics)], cwd=ROOT, check=True)
    return time.perf_counter() - start


def line(name: str, out: Path, metrics: Path) -> str:
    """Return a row of the table."""
    taken = median(seconds(out, metrics) for _ in range(REPEATS))
    figures = sum(path.read_text(encoding="utf-8").count("<figure") for path in out.glob("*.html"))
    return f"| {name} | {figures} | {taken:.1f} |"


def main() -> None:
    """Run the benchmark."""
    lines = [
        "# The site of the studies, from their records",
        "",
        f"{cores()} cores, nothing beside; wall seconds, the median of {REPEATS}. Target: under 5 s a study.",
        "",
        "| study | figures | s |",
        "|---|---|---|",
    ]
    for study in [*site.studies(ROOT / "metrics", ROOT / "conf/study"), "all"]:
        with tempfile.TemporaryDirectory() as folder:
            metrics = Path(folder) / "metrics"
            metrics.mkdir()
            for path in (ROOT / "metrics").iterdir():
                if study in ("all", path.name) or path.name == "claims":
                    (metrics / path.name).symlink_to(path)
            lines.append(line(study, Path(folder) / "site", metrics))
        print(lines[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
