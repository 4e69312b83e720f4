"""Stage report: one HTML page of a study, from its committed records and figures' tables."""

from pathlib import Path

from gapscope.engine.conclusion import conclusion
from gapscope.records.files import write_text
from gapscope.report.page import page
from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(
        __doc__,
        study=(str, "its name"),
        metrics=(Path, "folder metrics/STUDY"),
        plots=(Path, "folder plots/STUDY"),
        settings=(Path, "conf/study/STUDY.yaml"),
        verdicts=(Path, "metrics/claims/STUDY.csv; it may be missing"),
        out=(Path, ".html to write"),
    )
    write_text(args.out, page(args.study, args.metrics, args.plots, args.settings, args.verdicts))
    print("\n".join(conclusion(args.study, args.metrics, args.verdicts, args.out)))


if __name__ == "__main__":
    run_stage(main)
