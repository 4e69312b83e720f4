"""The numbers and tables of README.md and docs/, filled in from committed records.

`python docs/fill_tables.py` writes them again. A table stands between `<!-- NAME -->` and `<!-- end -->`. A number in a
sentence stands between `<!--NAME-->` and `<!--/-->`. A test checks that the pages are what this script writes.
"""

import functools
import re
from collections.abc import Callable

import pandas as pd
import verdict_changes
from facts import TABLES, facts
from facts.records import METRICS, ROOT, TEST, TRAIN, VERDICTS, means, shown

from gapscope.report import overview, sections, verdict_tables

PAGES = [
    ROOT / "README.md",
    *(
        ROOT / f"docs/{name}.md"
        for name in ("results", "studies", "training", "own_model", "known_noise_scale", "verdict_changes")
    ),
]

HEADS = {
    "table05": "5", "table06": "6", "table07": "7", "table08": "8", "table09": "9", "table10": "10",
    "table10_linear": "10, fully linear", "keskar_table3": "F1",
}  # fmt: skip
LAYERS = {  # studies of Gao & Zhong's claims about gradients, steps and curvature by layer
    "gao_quick": "LeNet-5, digits", "gao_law": "LeNet-5, Fashion-MNIST", "gao_radius": "LeNet-5, Fashion-MNIST, radii",
    "gao_no_warmup": "LeNet-5, Fashion-MNIST, radii after training", "gao_alexnet_law": "AlexNet, CIFAR-10",
}  # fmt: skip
GAO_REMEDIES = {  # study -> what it changes of the first one
    "gao_large_batch": "nothing", "gao_discarding": "discarding 30 % of small loss",
    "gao_discarding_rate": "nothing is discarded, rate / 0.7", "gao_discarding_sum": "discarding, sum divided by b",
    "gao_discarding_class_mix": "discarding at random, same class mix", "gao_discarding_random": "discarding at random",
    "gao_discarding_within_class": "discarding small losses within each class",
    "gao_first_epoch": "first epoch at b = 512, rate / 10", "gao_first_epoch_rate": "first epoch at rate / 10",
    "gao_first_epoch_batch": "first epoch at b = 512", "gao_first_epoch_updates": "14 further epochs",
}  # fmt: skip
SHOWN = [
    "train_cross_entropy_rises", "train_loss_rises", "penalty_rises_more", "test_cross_entropy_rises",
    "test_loss_rises", "train_error_rises", "test_error_rises", "best_epoch_rises", "over_fitting_rises",
    "distance_falls", "condition_number_rises", "condition_number_probe_rises", "untrained_condition_number_rises",
    "condition_number_over_reference_rises", "near_rank_rises", "excess_rises",
    "probe_excess_rises", "untrained_excess_rises", "excess_over_untrained_rises", "excess_over_reference_rises",
    "near_rank_with_train_loss", "near_rank_with_train_cross_entropy",
    "sharpness_rises", "manifold_sharpness_rises", "test_sharpness_rises", "hessian_rises",
]  # fmt: skip
ARMS = [
    "table05_equal_updates", "table05_longer", "table05_tuned_rate", "table11", "width", "keskar_warmstart_n5000",
]  # fmt: skip


def gaps() -> str:
    """Return printed and measured gaps, without the links to pages, which are not in git."""
    table = overview.gap_table(METRICS)
    rows = [[cell.text if isinstance(cell, sections.Link) else cell for cell in row] for row in table.rows]
    return sections.table_markdown(sections.Table(table.heads, rows, table.notes))


def signs() -> str:
    """Return verdicts and evidence of selected claims, one column per study."""
    heads = {study: head for study, head in HEADS.items() if study in set(VERDICTS["study"])}
    chosen = VERDICTS[VERDICTS["study"].isin(heads) & VERDICTS["claim"].isin(SHOWN)]
    return sections.table_markdown(verdict_tables.matrix(shown(chosen), heads))


def unseen() -> str:
    """Return the primary claims of Table 5, with the seeds that had been seen and with those that had not."""
    primary = VERDICTS[(VERDICTS["study"] == "table05_new_seeds") & (VERDICTS["family"] == "primary")]
    both = VERDICTS["study"].isin(["table05", "table05_new_seeds"]) & VERDICTS["claim"].isin(primary["claim"])
    return sections.table_markdown(verdict_tables.matrix(shown(VERDICTS[both & (VERDICTS["family"] != "twin")])))


def layers() -> str:
    """Return the verdicts and effects of Gao & Zhong's claims about layers, one column per study."""
    heads = {study: head for study, head in LAYERS.items() if study in set(VERDICTS["study"])}
    of = VERDICTS[VERDICTS["study"].isin(heads) & (VERDICTS["paper"] == "gao_zhong") & (VERDICTS["family"] != "twin")]
    tested = of.groupby("claim")["verdict"].transform(lambda verdicts: (verdicts != "not testable").any())
    return sections.table_markdown(verdict_tables.matrix(of[tested], heads))


def arms() -> str:
    """Return the claims about the remedies of Table 5, and about warm starts."""
    table = verdict_tables.arms(pd.concat([VERDICTS[VERDICTS["study"] == arm] for arm in ARMS]))
    return sections.table_markdown(table)


def gao_remedies() -> str:
    """Return the test error of Gao & Zhong's remedies and of their controls, by batch size."""
    run = {study: what for study, what in GAO_REMEDIES.items() if (METRICS / study / "runs.csv").exists()}
    errors = {study: [means(study, "error_pct", **where) for where in (TRAIN, TEST)] for study in run}
    sizes = sorted({size for of, _ in errors.values() for size in of.index})
    heads = ["study", "what is changed", *(f"train, test error %, b = {size}" for size in sizes)]
    cells = {
        study: [", ".join(f"{of[size]:.2f}" for of in both) if size in both[0].index else "" for size in sizes]
        for study, both in errors.items()
    }
    return sections.table_markdown(sections.Table(heads, [[f"`{study}`", run[study], *cells[study]] for study in run]))


def paper(study: str) -> str:
    """Return a study's table of paper against measured."""
    return (METRICS / study / "paper.md").read_text(encoding="utf-8").strip()


MADE: dict[str, Callable[[], str]] = {
    "gaps": gaps,
    "signs": signs,
    "unseen": unseen,
    "layers": layers,
    "gao_remedies": gao_remedies,
    "arms": arms,
    "table05": lambda: paper("table05"),
    "keskar_table3": lambda: paper("keskar_table3"),
    "verdicts_counted": verdict_changes.counted,
    "verdict_reasons": verdict_changes.reasons,
    "verdict_changes": verdict_changes.changes,
    **TABLES,
}
TABLE = re.compile(r"<!-- (\w+) -->\n.*?<!-- end -->", re.DOTALL)
FACT = re.compile(r"<!--(\w+)-->[^<]*<!--/-->")


@functools.cache  # the records stay as they are while this runs
def made(name: str) -> str:
    """Return a table."""
    return MADE[name]()


@functools.cache
def known() -> dict[str, str]:
    """Return all numbers, by name."""
    return facts()


def filled(text: str) -> str:
    """Return a page with its tables and numbers made again."""
    text = TABLE.sub(lambda found: f"<!-- {found[1]} -->\n\n{made(found[1])}\n\n<!-- end -->", text)
    return FACT.sub(lambda found: f"<!--{found[1]}-->{known()[found[1]]}<!--/-->", text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
