"""Stage claims: what the study's runs say of each of the papers' claims."""

from pathlib import Path

from gapscope import papers
from gapscope.claims import verdicts
from gapscope.claims.evidence import read_evidence
from gapscope.claims.in_task import in_task
from gapscope.config import load_params
from gapscope.measures.study import words_of_records
from gapscope.records.tables import write_table
from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(
        __doc__,
        tables=(Path, "folder of the study's tables"),
        reference=(Path, "table of runs of the study to compare with"),
        out=(Path, ".csv to write"),
    )
    params, claims = load_params(), papers.claims()
    settings = params.section("claims", verdicts.ClaimSettings)
    settings.check(params.study, claims)
    studies = read_evidence(args.tables, params, claims), read_evidence(args.reference.parent)
    asked = in_task(claims, words_of_records(args.tables, set(studies[0].values["quantity"])))
    write_table(args.out, verdicts.evaluate(asked, *studies, settings))


if __name__ == "__main__":
    run_stage(main)
