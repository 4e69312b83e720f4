"""How large a batch is worth it? The gradient noise scale at the start of training, for whoever has not trained yet.

McCandlish et al. 2018: the noise scale grows as the loss falls, so it is measured at the initial weights and along a
short training at a small batch size, which is all that it takes to see its order of magnitude.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gapscope.config import Count, Epochs, Threads
from gapscope.errors import InputError
from gapscope.measures.quantity import Quantity

if TYPE_CHECKING:  # a page is drawn without torch
    import pandas as pd
    from torch import nn

    from gapscope.data.datasets import Dataset
    from gapscope.measures.short_training import OfSeed
    from gapscope.measures.study import Study
    from gapscope.training.settings import TrainSettings

RUNS_ON = "seed"
QUANTITIES = {
    "noise_scale": Quantity("gradient noise scale", "images", ("epoch",), None),
    "loss": Quantity("cross-entropy", "nats", ("epoch",), "lower"),
    "trace": Quantity("trace of the covariance of one image's gradient", "", ("epoch",), None),
    "squared_gradient": Quantity("squared norm of the gradient, unbiased", "", ("epoch",), None),
    "batches": Quantity("batches compared", "", ("epoch",), None),
    "gradient_batch": Quantity("images in a batch", "images", ("epoch",), None),
}
CONDITIONS = ("images", "examples", "batch_norm", "precision")  # of a row; the same in all of them


@dataclass(frozen=True)
class NoiseScaleSettings:
    """Params of the noise_scale stage; `conf/config.yaml` says what each is."""

    batch_size: Count
    epochs: Epochs
    images: Count | None
    gradient_batch: int
    threads: Threads

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.gradient_batch < 2:
            raise InputError("noise_scale: epochs must be at least 1, gradient_batch at least 2 (batch norm)")


def noise_scales(
    model: "nn.Module",
    data: "Dataset",
    training: "TrainSettings",
    settings: NoiseScaleSettings,
    *,
    seed: int,
    device: str,
) -> tuple[str, list[dict[str, Any]]]:
    """Return how the training ended ("ok" or "diverged"), and a row an epoch, 0 being the initial weights.

    `model` is trained in place, at a constant rate: a curve laid over so few epochs would end in an annealed network,
    which a longer training has not after as many. A row has the noise scale, which predicts the critical batch size,
    with its 95 % interval; where training diverged, rows end before.

    Raises:
        InputError: too few images for three batches, or more asked for than there are; a batch size outside the
            training set; gradients of which no noise scale can be taken.
    """
    import torch

    from gapscope import seeds
    from gapscope.data.images import split_images
    from gapscope.measures.short_training import short_training
    from gapscope.numerics.loss_surface.noise_scale import noise_scale
    from gapscope.tasks import make_task
    from gapscope.training.objective import Objective

    images, task = split_images(data, "train", device), make_task(training.task)
    count = settings.images or len(images)
    if not 3 * settings.gradient_batch <= count <= len(images):
        raise InputError(
            f"noise_scale.images must be in {3 * settings.gradient_batch}..{len(images)} (three batches of "
            f"{settings.gradient_batch}, the training set), got {count}"
        )
    order = torch.randperm(count, generator=seeds.generator(seed, "noise scale"))
    rows: list[dict[str, Any]] = []

    def measured(epoch: int) -> None:
        # statistics of the batch, as in training: at the initial weights the running ones mean nothing
        size = settings.gradient_batch
        objective = Objective.of_images(
            model, images, count, size, torch.float32, batch_norm_statistics="batch", task=task
        )
        x = objective.weights()
        try:
            found = noise_scale(lambda: objective.gradients(x, size, order), size)
        except ValueError as error:
            raise InputError(f"noise scale after {epoch} epochs: {error}") from error
        figures = {("gradient_batch" if name == "batch_size" else name): value for name, value in asdict(found).items()}
        rows.append({"epoch": epoch, "loss": float(objective(x)), **figures, **objective.conditions()})

    lengths = {"batch_size": settings.batch_size, "epochs": settings.epochs}
    run = short_training(model, data, training, **lengths, seed=seed, device=device)
    measured(0)
    for epoch in run:
        measured(epoch)
    return run.result().status, rows


def of_seed(
    model: "nn.Module",
    data: "Dataset",
    training: "TrainSettings",
    settings: NoiseScaleSettings,
    *,
    seed: int,
    device: str,
) -> "OfSeed":
    """Return what the record of a seed holds; arguments and errors as of `noise_scales`."""
    from gapscope.measures.short_training import OfSeed

    status, found = noise_scales(model, data, training, settings, seed=seed, device=device)
    return OfSeed(status, list(rows(found)), conditions(found), printed(found))


def conditions(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all rows of `noise_scales` were measured on: images, batch-norm mode, precision."""
    return {name: found[0][name] for name in CONDITIONS if found and name in found[0]}


def printed(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the noise scale of each epoch, as text for a terminal."""
    import pandas as pd

    columns = ["epoch", "loss", "noise_scale", "low", "high"]
    return str(pd.DataFrame(found)[columns].to_string(index=False, float_format="%.4g"))


def rows(found: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the long rows of a record, from what `noise_scales` returns; to 10 significant digits."""
    for row in found:
        of = {name: float(f"{value:.10g}") if isinstance(value, float) else value for name, value in row.items()}
        for quantity in QUANTITIES:
            bounds = {end: of[end] for end in ("low", "high")} if quantity == "noise_scale" else {}
            yield {"epoch": of["epoch"], "quantity": quantity, "value": of[quantity], **bounds}


def study_table(study: "Study") -> "pd.DataFrame":
    """Return the rows of every seed's short training, with what identifies it."""
    import pandas as pd

    frames = [
        table.assign(**about, batch_size=record["settings"]["batch_size"])
        for about, record, table in study.seed_records("noise_scale")
    ]
    return pd.concat(frames, ignore_index=True)
