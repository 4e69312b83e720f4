"""Error and loss, and norms of the weights, of each run: at the end of training and after each epoch.

A run that ends no better than by guessing has learned nothing: it has no generalization gap to speak of, and is left
out of means and tests, as a diverged run is.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapscope.errors import reading
from gapscope.measures.quantity import Quantity
from gapscope.records.long import RUN
from gapscope.records.tables import AGAIN, Record, read_record
from gapscope.tasks.words import WORDS, words_of

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

    from gapscope.measures.study import Study

RUNS_ON = "cell"
STAGE = "train"
EACH = ("split", "statistics")
QUANTITIES = {
    "error_pct": Quantity("error", "%", EACH, "lower"),
    "cross_entropy": Quantity("cross-entropy", "nats", EACH, "lower"),
    "penalty": Quantity("weight penalty, 0.5 λ Σw²", "nats", (), None),
    "rmse_pct": Quantity("root mean square error", "% of SD", EACH, "lower"),
    "r2": Quantity("R²", "", EACH, "higher"),
    "squared_error": Quantity("squared error", "variances", EACH, "lower"),
    "huber_loss": Quantity("Huber loss", "variances", EACH, "lower"),
    "token_error_pct": Quantity("token error", "%", EACH, "lower"),
    "token_cross_entropy": Quantity("cross-entropy per token", "nats per token", EACH, "lower"),
    "label_error_pct": Quantity("label error", "%", EACH, "lower"),
    "exact_match_pct": Quantity("exact match", "%", EACH, "higher"),
    "label_cross_entropy": Quantity("cross-entropy per label", "nats per label", EACH, "lower"),
    "perplexity": Quantity("perplexity", "", EACH, "lower"),
    "loss": Quantity("cross-entropy + penalty", "nats", EACH, "lower"),
    "loss_keras": Quantity("cross-entropy + twice the penalty, as Keras adds it", "nats", ("split",), "lower"),
    "best_epoch_error_pct": Quantity("error at the best epoch", "%", (*EACH, "chosen_on"), "lower"),
    "best_epoch_rmse_pct": Quantity(
        "root mean square error at the best epoch", "% of SD", (*EACH, "chosen_on"), "lower"
    ),
    "best_epoch_token_error_pct": Quantity("token error at the best epoch", "%", (*EACH, "chosen_on"), "lower"),
    "best_epoch_label_error_pct": Quantity("label error at the best epoch", "%", (*EACH, "chosen_on"), "lower"),
    "weight_norm": Quantity("norm of the weights", "", (), None),
    "distance_from_initial": Quantity("distance from the initial weights", "", (), None),
    "updates": Quantity("updates", "", (), None),
    "epochs": Quantity("epochs", "", (), None),
}
REESTIMATED = {"statistics": "reestimated"}
ERRORS = tuple(dict.fromkeys(words.error for words in WORDS.values()))  # of all tasks; a run has one of them
LOSSES = tuple(dict.fromkeys(words.loss for words in WORDS.values()))
BESIDE_ERRORS = ("r2", "exact_match_pct", "perplexity")
HEADLINES = [
    *((name, {"split": "test", **REESTIMATED}) for name in ERRORS),
    *((name, {"split": "train", **REESTIMATED}) for name in LOSSES),
]
SHOWN: list[tuple[str, dict[str, Any]]] = [
    ("updates", {}),
    *(
        (name, {"split": split, **REESTIMATED})
        for name in (*ERRORS, "r2", "exact_match_pct", *LOSSES, "perplexity")
        for split in ("train", "test")
    ),
    *((name, {}) for name in ("penalty", "weight_norm", "distance_from_initial")),
]


def gap_columns(quantities: Collection[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Return what the table of gaps is made of, column -> quantity and axes: the error, and how far a run was trained.

    Args:
        quantities: that the study has.
    """
    error = words_of(quantities).error
    return {
        "test_error_pct": (error, {"split": "test", **REESTIMATED}),
        "train_error_pct": (error, {"split": "train", **REESTIMATED}),
        "updates": ("updates", {}),
    }


# names that training gives without a split -> quantity
PLAIN = {
    "penalty": "penalty",
    "weight_norm": "weight_norm",
    "distance_from_initial": "distance_from_initial",
    "updates": "updates",
    "epochs_run": "epochs",
    "lr": "learning_rate",
}
OF_A_SPLIT = ("error_pct", "cross_entropy", "loss")  # in classification

STUCK = "learned nothing"  # a status beside "ok" and "diverged"
# Our choice: a run has learned nothing if it has at least these parts of the cross-entropy and the error of guessing.
# Classes may be of unequal size: calling every digit of MNIST the commonest one is wrong for 88.8 %, not 90 %. A task
# that records its own loss of guessing is judged by that part of it alone.
PART_OF_LOSS = 0.99
GUESSING = {"cross_entropy": PART_OF_LOSS, "error_pct": 0.9}


def spelled(name: str, of_a_split: Sequence[str] = OF_A_SPLIT) -> tuple[str, dict[str, str]] | None:
    """Return the quantity and the axes of a name that training uses; None for a name of no quantity.

    Args:
        name: of a number of training.
        of_a_split: the quantities that training gives for each split: the task's error and loss, and "loss".

    Example:
        >>> spelled("test_error_pct_running")
        ('error_pct', {'split': 'test', 'statistics': 'running'})
    """
    if name in PLAIN:
        return PLAIN[name], {}
    statistics = "running" if name.endswith("_running") else "reestimated"
    split, _, quantity = name.removesuffix("_running").partition("_")
    if split in ("train", "test") and quantity in of_a_split:
        return quantity, {"split": split, "statistics": statistics}
    return None


def rows(
    history: Sequence[Mapping[str, Any]], final: Mapping[str, Any], of_a_split: Sequence[str] = OF_A_SPLIT
) -> Iterator[dict[str, Any]]:
    """Yield the long rows of a run: those of each epoch, to 10 significant digits, then the final ones, exactly.

    Args:
        history: one row per evaluated epoch, as training gives it.
        final: what training gives at the end.
        of_a_split: as in `spelled`.
    """
    for epoch in history:
        for name, value in epoch.items():
            if found := spelled(name, of_a_split):
                quantity, axes = found
                rounded = float(f"{value:.10g}") if isinstance(value, float) else value
                yield {"epoch": epoch["epoch"], **axes, "quantity": quantity, "value": rounded}
    for name, value in final.items():
        if found := spelled(name, of_a_split):
            quantity, axes = found
            yield {**axes, "quantity": quantity, "value": value}


def beside_numbers(final: Mapping[str, Any], of_a_split: Sequence[str] = OF_A_SPLIT) -> dict[str, Any]:
    """Return the entries of `final` that are no quantities, without the seconds: they go into the JSON record."""
    return {name: value for name, value in final.items() if not spelled(name, of_a_split) and name != "wall_s"}


def run_rows(study: "Study") -> "pd.DataFrame":
    """Return the final quantities of each run as long rows, with the errors at the best epochs."""
    import pandas as pd

    found = study.long(STAGE)
    final = found[found["epoch"].isna()].drop(columns="epoch")
    return pd.concat([final, _keras(final), _best_epochs(study, found)], ignore_index=True)


def notes(study: "Study") -> "list[dict[str, Any]]":
    """Return the status and the device of each run."""
    return [
        {**run, "status": status(record, table), "device": record["device"]}
        for run, record, table in study.records(STAGE)
    ]


def table_notes(folder: Path) -> list[str]:
    """Return the learning rates that were chosen, run by run, from the records in a folder metrics/STUDY."""
    records = [read_record(path) for path in sorted((folder / STAGE).glob("*.json"))]
    swept = [record for record in records if record.get("lr_sweep")]
    return [_chosen_rates(list(of)) for _, of in groupby(sorted(swept, key=_network), _network)]


def _network(record: Record) -> tuple[str, str]:
    return record["model"]["name"], record["dataset"]


def _chosen_rates(records: Sequence[Record]) -> str:
    """Return the rates that one network's runs chose, and from which."""
    candidates = sorted({row["lr"] for record in records for row in record["lr_sweep"]})
    by_size: dict[int, list[float]] = {}
    for record in sorted(records, key=itemgetter("batch_size", "seed")):
        by_size.setdefault(record["batch_size"], []).append(record["lr_start"])
    chosen = "; ".join(f"b = {size}: {', '.join(f'{lr:g}' for lr in rates)}" for size, rates in by_size.items())
    ends = {candidates[0], candidates[-1]} & {lr for rates in by_size.values() for lr in rates}
    beyond = " A rate at an end of this list was chosen, so a better one may lie beyond." if ends else ""
    tried = ", ".join(f"{lr:g}" for lr in candidates)
    return (
        f"Each run's learning rate is the one with the smallest loss on held-out training images, of {tried}."
        f" Chosen, one per seed: {chosen}.{beyond}"
    )


def status(record: Record, table: "pd.DataFrame") -> str:
    """Return "ok", "diverged" or `STUCK`, from a run's record and its long table.

    Raises:
        InputError: the record has something else where it should have numbers.
    """
    with reading(record.path, "the record of a run", AGAIN):
        return _status(record, table)


def _status(record: Mapping[str, Any], table: "pd.DataFrame") -> str:
    classes = record.get("model", {}).get("classes")
    if record["status"] != "ok" or classes is None:
        return str(record["status"])
    final = (table["split"] == "train") & (table["statistics"] == "reestimated") & table["epoch"].isna()
    values = table[final].set_index("quantity")["value"]
    if "guessing" in record:
        return STUCK if any(values[loss] >= PART_OF_LOSS * of for loss, of in record["guessing"].items()) else "ok"
    if not {*GUESSING} <= {*values.index}:  # another task: what guessing gives there is not known
        return "ok"
    wrong = values["error_pct"] >= GUESSING["error_pct"] * 100 * (1 - 1 / classes)
    return STUCK if wrong and values["cross_entropy"] >= GUESSING["cross_entropy"] * math.log(classes) else "ok"


def _keras(final: "pd.DataFrame") -> "pd.DataFrame":
    """Return cross-entropy + 2 penalty: the loss that Keras reports, whose decay has no factor 1/2."""
    entropy = final[(final["quantity"] == "cross_entropy") & (final["statistics"] == "reestimated")]
    penalty = final[final["quantity"] == "penalty"].set_index([*RUN])["value"]
    of_run = penalty.reindex(entropy.set_index([*RUN]).index).to_numpy()
    loss = entropy["value"] + of_run + of_run
    return entropy.assign(quantity="loss_keras", statistics=None, value=loss)


def _best_epochs(study: "Study", table: "pd.DataFrame") -> "pd.DataFrame":
    """Return each good run's test error at its best epoch, and at the epoch that is best for the other seeds.

    Both are noisy, the more so the noisier the epochs, as those of large batches are. A run's own smallest error is
    biased downwards. The other seeds' best epoch is selected without this run, so this run's error there is not. It is
    given only for runs of equal length, and where there are other seeds.
    """
    import numpy as np
    import pandas as pd

    axes = {"split": "test", "statistics": "running"}
    good = {tuple(note[name] for name in RUN) for note in study.notes if note["status"] == "ok"}
    words = words_of(set(table["quantity"]))
    here = table[table["epoch"].notna() & (table["quantity"] == words.error)]
    here = here[(here["split"] == axes["split"]) & (here["statistics"] == axes["statistics"])]
    made: list[dict[str, Any]] = []
    for (model, dataset, size), runs in here.groupby(["model", "dataset", "batch_size"], sort=False):
        by_seed = {seed: of.set_index("epoch")["value"] for seed, of in runs.groupby("seed", sort=False)}
        by_seed = {seed: errors for seed, errors in by_seed.items() if (model, dataset, size, seed) in good}
        if not by_seed:
            continue
        about = {"model": model, "dataset": dataset, "batch_size": size, **axes, "quantity": words.best_epoch_error}
        made += [{**about, "seed": seed, "chosen_on": "own", "value": of.min()} for seed, of in by_seed.items()]
        first, *others = by_seed.values()
        if others and all(errors.index.equals(first.index) for errors in others):
            errors = np.column_stack([first, *others])
            of_others = errors.sum(axis=1, keepdims=True) - errors
            chosen = errors[of_others.argmin(axis=0), range(len(by_seed))]
            made += [
                {**about, "seed": seed, "chosen_on": "others", "value": value}
                for seed, value in zip(by_seed, chosen, strict=True)
            ]
    return pd.DataFrame(made, columns=[*RUN, "quantity", *axes, "chosen_on", "value"])
