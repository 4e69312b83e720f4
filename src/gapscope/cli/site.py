"""`gapscope site`: all studies' results as one site."""

import time
from pathlib import Path
from typing import Any

PAGES = Path("site")

EXAMPLE = "example: gapscope site --out pages"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "write an index and every study's page, from the committed records"
    parser = commands.add_parser("site", help=purpose, description=purpose, epilog=EXAMPLE)
    parser.add_argument("--out", type=Path, default=PAGES, metavar="DIR", help=f"folder to write, default {PAGES}")
    parser.set_defaults(run=lambda args: site(args.out))


def site(out: Path) -> None:
    """Make the site and say where it lies.

    Raises:
        InputError: there are no results.
    """
    from gapscope.report.site import build

    start = time.perf_counter()
    written = build(out, Path("metrics"), Path("plots"), Path("conf/study"))
    print(f"{written[0]}: {len(written) - 2} studies, {time.perf_counter() - start:.0f} s")
