"""Strides: how far each layer's weights move in an update, in the first epoch, and over a whole run.

Gao & Zhong, equations 5 to 8, Figures 4, 5 and 7. The observer `strides` records them in training
(`gapscope.training.observers.Strides`); nothing is measured afterwards. The paper's "parameter searching space" is the
area under the strides of the epochs. That grows with the number of epochs, whatever is learned. The path grows with the
number of updates, which falls as 1/b. So the net displacement and its ratio to the path stand beside them.
"""

from typing import TYPE_CHECKING, Any

from gapscope.errors import InputError
from gapscope.measures.quantity import Quantity
from gapscope.records.long import RUN

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

    from gapscope.measures.study import Study

RUNS_ON = "cell"
STAGE = "train"
OBSERVER = "strides"
QUANTITIES = {
    "first_epoch_stride_per_lr": Quantity("mean |Δw| / lr per update in the first epoch", "", ("layer",), None),
    "first_epoch_loss_stride": Quantity("mean g² per update in the first epoch", "", ("layer",), None),
    "stride_area": Quantity("mean |Δw| per update, summed over epochs", "", ("layer",), None),
    "stride_per_update": Quantity("mean |Δw| per update", "", ("layer",), None),
    "path": Quantity("mean path, Σ |Δw|", "", ("layer",), None),
    "net_displacement": Quantity("mean net displacement, |w − w₀|", "", ("layer",), None),
    "net_over_path": Quantity("net displacement / path", "", ("layer",), None),
}
SHOWN: list[tuple[str, dict[str, Any]]] = [
    (name, {}) for name in ("first_epoch_stride_per_lr", "path", "net_displacement", "net_over_path")
]
FIRST_EPOCH = {"stride_per_lr": "first_epoch_stride_per_lr", "mean_square_gradient": "first_epoch_loss_stride"}


def by_epoch(study: "Study") -> "pd.DataFrame":
    """Return what the observer recorded: one row per run, layer and epoch, a column per quantity, and the updates.

    Raises:
        InputError: no run was observed.
    """
    found = study.long(STAGE)
    rows = found[found["layer"].notna()] if "layer" in found else found.iloc[:0]
    if rows.empty or not (rows["quantity"] == "stride").any():
        raise InputError("the runs have no strides: set train.observers: [strides] and train again")
    index = [*RUN, "layer", "epoch"]
    table = rows.set_index([*index, "quantity"])["value"].unstack("quantity").reset_index()
    updates = found[found["epoch"].isna() & (found["quantity"] == "updates")][[*RUN, "value"]]
    table = table.merge(updates.rename(columns={"value": "updates"}), on=[*RUN])
    # in the network's order, which sorting by name loses
    order = {layer: place for place, layer in enumerate(rows["layer"].drop_duplicates())}
    place = table["layer"].map(order)
    return table.iloc[place.argsort(kind="stable")].reset_index(drop=True)


def run_rows(study: "Study") -> "pd.DataFrame":
    """Return the quantities of each run and layer as long rows."""
    import pandas as pd

    table = by_epoch(study)
    of_layer = table.groupby([*RUN, "layer"], sort=False)
    last = of_layer.last()  # epochs ascend within a layer
    first = table[table["epoch"] == 1].set_index([*RUN, "layer"])
    values = {name: first[recorded] for recorded, name in FIRST_EPOCH.items()}
    values |= {"stride_area": of_layer["stride"].sum(), "stride_per_update": last["path"] / last["updates"]}
    values |= {"path": last["path"], "net_displacement": last["net_displacement"]}
    values["net_over_path"] = last["net_displacement"] / last["path"]  # NaN for a layer that never moved
    return pd.concat([of.rename("value").reset_index().assign(quantity=name) for name, of in values.items()])
