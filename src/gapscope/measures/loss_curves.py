"""Loss curves: how much the loss fluctuates along training, of a fixed probe and of the batches themselves.

Gao & Zhong, Figure 8: the paper sees large fluctuations at small and at large batch sizes, and small ones between. The
probe is the training images that the history evaluates after each epoch, the same ones in every run. A batch's own loss
also varies because the batch is a random sample, by sd/sqrt(n): at small batches that is a part of what the paper sees.
So the claim is about the probe. The observer `losses` records the batches' losses; without it there is only the probe.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gapscope.measures.quantity import Quantity
from gapscope.records.long import RUN
from gapscope.tasks.words import words_of

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

    from gapscope.measures.study import Study

RUNS_ON = "cell"
STAGE = "train"
HALVES = ("first", "second")
WINDOW = 5  # epochs of the running median; our choice
QUANTITIES = {
    "loss_fluctuation": Quantity("fluctuation of the log loss", "", ("sample", "half"), "lower"),
    "sampling_fluctuation": Quantity("fluctuation of the log loss by sampling alone", "", ("sample", "half"), None),
}


def curves(study: "Study") -> "pd.DataFrame":
    """Return the loss along training: of the probe after each epoch, and of each batch that was recorded.

    Returns:
        Columns of the run, `sample` (probe or batch), `epoch` (with a fraction for a batch), `loss`, and `sampling_sd`,
        NaN for the probe.
    """
    import pandas as pd

    found = study.long(STAGE)
    found = found[found["epoch"].notna()]
    train = found[found["split"] == "train"]
    names = set(train["quantity"])
    loss = words_of(names).loss
    probe = train[train["quantity"] == (loss if loss in names else "loss")]  # "loss": of a task of one's own
    frames = [probe.assign(sample="probe", loss=probe["value"], sampling_sd=float("nan"))]
    if "update" in found:
        index = [*RUN, "epoch", "update"]
        rows = found[found["quantity"].isin(("batch_loss", "batch_loss_sampling_sd"))]
        batch = rows.set_index([*index, "quantity"])["value"].unstack("quantity").reset_index()
        batch = batch.rename(columns={"batch_loss": "loss", "batch_loss_sampling_sd": "sampling_sd"})
        of_epoch = batch.groupby([*RUN, "epoch"])["update"]
        batch["epoch"] = batch["epoch"] - 1 + (of_epoch.cumcount() + 0.5) / of_epoch.transform("size")
        frames.append(batch.assign(sample="batch"))
    columns = [*RUN, "sample", "epoch", "loss", "sampling_sd"]
    return pd.concat([frame[columns].astype({"epoch": float}) for frame in frames], ignore_index=True)


def run_rows(study: "Study") -> "pd.DataFrame":
    """Return the fluctuations of each run as long rows; none for a half with fewer than five values."""
    import pandas as pd

    groups = curves(study).groupby([*RUN, "sample"], sort=False)
    columns = [*RUN, "sample"]
    made = [{**dict(zip(columns, key, strict=True)), **row} for key, of in groups for row in _rows(of)]
    return pd.DataFrame(made, columns=[*columns, "half", "quantity", "value"])


def _rows(curve: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    """Yield the fluctuations of one run's loss; a loss that is 0 or not finite has no logarithm, and is left out."""
    import numpy as np

    from gapscope.numerics.fluctuation import log_residuals, scatter

    curve = curve[np.isfinite(curve["loss"]) & (curve["loss"] > 0)]
    epochs = curve["epoch"].to_numpy()
    if not len(epochs):
        return
    a_window = WINDOW * len(epochs) / np.ceil(epochs[-1])  # values in five epochs
    residuals = log_residuals(curve["loss"].to_numpy(), 2 * (int(a_window) // 2) + 1)
    relative = (curve["sampling_sd"] / curve["loss"]).to_numpy()
    for half, chosen in zip(HALVES, (epochs <= epochs[-1] / 2, epochs > epochs[-1] / 2), strict=True):
        yield {"half": half, "quantity": "loss_fluctuation", "value": scatter(residuals[chosen])}
        yield {"half": half, "quantity": "sampling_fluctuation", "value": scatter(relative[chosen])}
