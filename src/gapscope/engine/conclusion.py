"""What a run of a study ends with: its answer in words, how it compares with the committed results, and its page."""

from pathlib import Path

from gapscope.engine import differences
from gapscope.report import page


def conclusion(study: str, metrics: Path, verdicts: Path, out: Path) -> list[str]:
    """Return the last lines of a run.

    Args:
        study: its name.
        metrics: folder metrics/STUDY.
        verdicts: its table of claims; it may be missing.
        out: its page.
    """
    counted = page.counted(page.claims(verdicts))
    return [
        f"study {study}",
        *(f"  {sentence}" for sentence in page.answers(metrics / "gap.csv")),
        *([f"  claims: {counted}"] if counted else []),
        *(f"  {line}" for line in differences.with_committed(study)),
        f"page: {out}",
    ]
