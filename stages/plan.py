"""Stage plan: check a study's cells on one data set before any of them starts, and say what they cost."""

from operator import index
from pathlib import Path

from gapscope.config import load_params
from gapscope.errors import reading
from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(
        __doc__,
        found=(Path, ".json of the download stage"),
        out=(Path, "file to write if the study can run"),
    )

    from gapscope.engine import plan
    from gapscope.engine.time_left import duration, training_seconds
    from gapscope.records.files import write_text
    from gapscope.records.tables import read_record

    data, params = read_record(args.found), load_params()
    with reading(args.found, "a record of the download stage", "run that stage again"):
        shape, classes, images = (
            tuple(map(index, data["image_shape"])),
            index(data["classes"]),
            index(data["train_images"]),
        )
        if len(shape) not in (1, 3):
            raise ValueError(f"image_shape must be [channels, height, width] or [features], got {list(shape)}")
    plan.check_task(params, data["dataset"], data.get("targets", "labels"))
    print(plan.check(params, data["dataset"], shape, classes, images))
    if seconds := training_seconds():
        time = duration(sum(seconds.values()))
        print(f"training, one run after the other, takes about {time} here; the measures come on top")
    write_text(args.out, "checked\n")  # a constant text: a further cell makes no other cell stale


if __name__ == "__main__":
    run_stage(main)
