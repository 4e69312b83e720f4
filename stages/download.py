"""Stage download: find a data set, check it, and write it as one .npz with a record of its source and statistics."""

from pathlib import Path

from gapscope.config import load_params
from gapscope.data import sources
from gapscope.records.tables import write_record
from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(
        __doc__,
        dataset=(str, "digits, diabetes, mnist, ... (docs/params.md) or your own"),
        out=(Path, ".npz to write; the record goes beside it as .json"),
    )
    settings = load_params().section("data", sources.DataSettings)
    record = sources.fetch(args.dataset, args.out, **vars(settings))
    write_record(args.out.with_suffix(".json"), record)
    unit = "images" if "channel_mean" in record else "sequences" if "train_tokens" in record else "examples"
    images = f"{record['train_images']} training and {record['test_images']} test {unit}"
    print(f"{args.dataset}: {images}, {record['source']}")
    for note in record.get("read_as", []):
        print(f"{args.dataset}: read {note}")


if __name__ == "__main__":
    run_stage(main)
