"""Run data/gpu/programme.json on a machine with a GPU and without a network, git or DVC, and pack the results.

Usage, in a copy of the repository: python gpu/run.py --minutes 25 --out FOLDER
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # nothing is installed here

from gapscope.engine.half_hour.execute import execute
from gapscope.engine.half_hour.pack import Limits
from gapscope.engine.half_hour.programme import Programme
from gapscope.runtime import run_command


def main() -> None:
    """Run the programme; SIGINT and SIGTERM end it early, with a pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pack; what it held is removed")
    parser.add_argument("--minutes", type=float, required=True, help="until the pack is written")
    parser.add_argument("--packing", type=float, default=90, help="seconds of them for stopping and packing")
    parser.add_argument("-j", "--jobs", type=int, default=4, help="stages at once on the GPU, default 4")
    parser.add_argument("--files", type=int, default=Limits.files, help="files of the pack, at most")
    parser.add_argument("--file-bytes", type=int, default=Limits.file_bytes, help="bytes of each file, at most")
    args = parser.parse_args()
    execute(
        Programme.read(), args.out, seconds=60 * args.minutes, packing_s=args.packing, jobs=args.jobs,
        limits=Limits(args.files, args.file_bytes),
    )  # fmt: skip


if __name__ == "__main__":
    run_command(main)
