"""Stage check: params of the right type and size, measures that go together, safe names; all others wait for it."""

from pathlib import Path

from gapscope import measures
from gapscope.config import load_params
from gapscope.engine.groups import check_groups
from gapscope.records.files import write_text
from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, out=(Path, "file to write if everything is in order"))
    params = load_params()
    measures.check(params.groups["measures"])
    check_groups(params)
    write_text(args.out, "names: safe\n")  # a constant text: other names make no other stage stale


if __name__ == "__main__":
    run_stage(main)
