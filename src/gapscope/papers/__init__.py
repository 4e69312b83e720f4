"""The papers: each is a folder with its claims, its printed tables, and the studies that repeat its tables and figures.

A further paper is a further folder and a line of `PAPERS`.
"""

import pandas as pd

from gapscope.claims.claim import Claim
from gapscope.errors import InputError
from gapscope.papers import gao_zhong, keskar2017, own, oyedotun2022
from gapscope.papers.paper import Item, Paper

LISTED = (oyedotun2022.PAPER, keskar2017.PAPER, gao_zhong.PAPER, own.PAPER)
PAPERS: dict[str, Paper] = {paper.folder: paper for paper in LISTED}


def claims() -> tuple[Claim, ...]:
    """Return the claims of all papers, in their order.

    Raises:
        InputError: two claims of one name.
    """
    every = tuple(claim for paper in PAPERS.values() for claim in paper.claims)
    names = [claim.name for claim in every]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"papers: more than one claim is named {', '.join(twice)}")
    return every


def items() -> list[tuple[Paper, Item]]:
    """Return the tables and figures of all papers."""
    return [(paper, item) for paper in PAPERS.values() for item in paper.items]


def printed_item(study: str) -> tuple[Paper, Item] | None:
    """Return the item whose printed table stands beside a study's results; None if there is none."""
    return next(((paper, item) for paper, item in items() if item.study == study and item.printed is not None), None)


def beside(study: str, batches: pd.DataFrame, cells: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return printed beside measured values as a table and as Markdown; both empty for a study that repeats no table.

    Args:
        study: its name.
        batches: its `batch_sizes.csv`.
        cells: its `cells.csv`.
    """
    found = printed_item(study)
    if not found or not found[0].beside or not found[0].markdown:
        return pd.DataFrame(), ""
    rows = found[0].beside(found[1].printed, batches, cells)
    return rows, found[0].markdown(rows)


def printed(study: str) -> pd.DataFrame:
    """Return the printed values that a study's figures show: long rows of batch_size, quantity, axes, value."""
    found = printed_item(study)
    return found[0].printed(found[1].printed) if found and found[0].printed else pd.DataFrame()


def no_evidence() -> set[str]:
    """Return the studies whose settings are chosen to be quick: their verdicts are no evidence."""
    return {study for paper in PAPERS.values() for study in paper.no_evidence}
