"""The gradient law: how the mean gradient of each layer falls with the batch size, and where it stops falling.

Gao & Zhong, equations 1-4, 7 and 8, Figures 3 and 9. `gapscope.numerics.gradient_law` has the laws. Here they are
compared with a network's gradients, at its initial weights and after stated epochs of a short training. Two further
parts belong to it: the loss that one step gains, on its own batch and on a probe of test images, and the gradient that
is left when samples are discarded by their loss.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Annotated, Any

from gapscope.config import Count, Threads, Within
from gapscope.errors import InputError
from gapscope.measures.gradient_steps import Steps, step_rows
from gapscope.measures.quantity import Quantity

if TYPE_CHECKING:  # a page is drawn without torch
    import pandas as pd
    import torch
    from torch import Tensor, nn

    from gapscope.data.datasets import Dataset
    from gapscope.data.images import Images
    from gapscope.measures.short_training import OfSeed
    from gapscope.measures.study import Study
    from gapscope.numerics.gradient_law import Estimate, GradientLaw
    from gapscope.tasks.task import Task
    from gapscope.training.objective import Objective
    from gapscope.training.settings import TrainSettings

    Row = dict[str, Any]

RUNS_ON = "seed"
OF_LAYER = ("layer", "epoch")
QUANTITIES = {
    "mean_abs": Quantity("mean |g|", "", (*OF_LAYER, "images"), None),
    "mean_abs_law": Quantity("mean |g|, predicted", "", (*OF_LAYER, "images", "law"), None),
    "exponent": Quantity("local exponent of the mean |g|", "", (*OF_LAYER, "images"), None),
    "mean_square": Quantity("mean g²", "", (*OF_LAYER, "images"), None),
    "mean_square_law": Quantity("mean g², predicted", "", (*OF_LAYER, "images"), None),
    "gradient_batches": Quantity("gradients averaged", "", (*OF_LAYER, "images"), None),
    "mu2": Quantity("mean μ², unbiased", "", OF_LAYER, None),
    "sigma2": Quantity("mean σ² of one image's gradient", "", OF_LAYER, None),
    "layer_noise_scale": Quantity("noise scale of a layer, n*", "images", OF_LAYER, None),
    "live_share": Quantity("share of entries that have a gradient", "", OF_LAYER, None),
    "entries": Quantity("entries", "", OF_LAYER, None),
    "equation_8_decrement": Quantity("loss that one step gains by equation 8", "nats", ("epoch", "images"), None),
    "first_order_decrement": Quantity(
        "loss that one step gains, to first order", "nats", ("sample", "epoch", "images"), None
    ),
    "loss_decrement": Quantity("loss that one step gains", "nats", ("sample", "epoch", "images"), None),
    "discarded_mean_abs": Quantity("mean |g| of the samples kept", "", (*OF_LAYER, "choice", "discarded"), None),
}
OWN_BATCHES = 8  # of each n, for a network with batch norm
AT_ONCE = 1000  # images in a forward pass where the number is free: without batch norm


@dataclass(frozen=True)
class GradientLawSettings:
    """Params of the gradient_law stage; `conf/config.yaml` says what each is."""

    batch_size: Count
    epochs: tuple[Annotated[int, Within(0, 100_000)], ...]
    images: Count | None
    gradient_batch: int
    probe_images: int
    steps: Annotated[int, Within(0, 10_000)]
    discard_batch: Annotated[int, Within(2)] | None
    threads: Threads

    def __post_init__(self) -> None:
        if not self.epochs or min(self.epochs) < 0:
            raise InputError(f"gradient_law.epochs must name epochs, 0 or more, got {list(self.epochs)}")
        if self.gradient_batch < 2:
            raise InputError("gradient_law.gradient_batch must be at least 2 (batch norm)")
        if self.probe_images < 1 or self.steps < 0:
            raise InputError("gradient_law: probe_images must be at least 1, steps at least 0")


def gradient_laws(
    model: "nn.Module",
    data: "Dataset",
    training: "TrainSettings",
    settings: GradientLawSettings,
    *,
    seed: int,
    device: str,
) -> tuple[str, "list[Row]"]:
    """Return how the training ended ("ok" or "diverged"), and the long rows of each measured epoch.

    `model` is trained in place at a constant rate, up to the last of `settings.epochs`; epoch 0 is the initial weights.
    The images are drawn from the training set, the probe from the test set. Where training diverged, rows end before.

    Raises:
        InputError: too few images for four batches, or more asked for than there are; a batch size outside the
            training set; gradients that are not finite.
    """
    from gapscope.data.images import split_images
    from gapscope.measures.short_training import short_training
    from gapscope.tasks import make_task

    images = _drawn(split_images(data, "train", device), settings.images, seed, "images", 4 * settings.gradient_batch)
    test = split_images(data, "test", device)
    probe = _drawn(test, min(settings.probe_images, len(test)), seed, "probe", 1)
    task, rate = make_task(training.task), training.schedule.lr_start
    rows: list[Row] = []

    def measured(epoch: int) -> None:
        try:
            found = list(at_weights(model, images, probe, settings, lr=rate, seed=seed, task=task))
        except ValueError as error:
            raise InputError(f"gradient law after {epoch} epochs: {error}") from error
        rows.extend({"epoch": epoch, **row} for row in found)

    if 0 in settings.epochs:
        measured(0)
    if not (last := max(settings.epochs)):
        return "ok", rows
    lengths = {"batch_size": settings.batch_size, "epochs": last}
    run = short_training(model, data, training, **lengths, seed=seed, device=device)
    for epoch in run:
        if epoch in settings.epochs:
            measured(epoch)
    return run.result().status, rows


def at_weights(
    model: "nn.Module",
    images: "Images",
    probe: "Images",
    settings: GradientLawSettings,
    *,
    lr: float,
    seed: int,
    task: "Task | None" = None,
) -> "Iterator[Row]":
    """Yield the long rows of a network's own weights, to 10 significant digits.

    Args:
        model: on the device of the images; not changed.
        images: in random order; the last ones are left out if they make no whole batch.
        probe: images that the gradients do not see.
        settings: sizes; its epochs and batch size are not read.
        lr: of the step whose gain is measured.
        seed: of what is discarded at random.
        task: gives the loss; None: classification.

    Raises:
        ValueError: fewer than 4 batches, or a gradient that is not finite.
    """
    import torch

    from gapscope import seeds
    from gapscope.models import batch_norms
    from gapscope.numerics.gradient_law import gradient_law
    from gapscope.tasks.classification import CLASSIFICATION, Classification
    from gapscope.training.objective import Objective

    given = task or CLASSIFICATION
    size = settings.gradient_batch
    coupled = bool(batch_norms(model))  # then the gradient of n images is not the mean of those of fewer

    def objective(of: "Images", at_once: int | None = None) -> "Objective":
        parts = at_once or (len(of) if coupled else AT_ONCE)
        statistics = "batch" if coupled else "running"
        return Objective(
            model, of, micro_batch=parts, dtype=torch.float32, batch_norm_statistics=statistics, task=given
        )

    whole = objective(images, size)
    x, sizes = whole.weights(), [shape.numel() for shape in whole.shapes]
    steps = Steps(objective, images, probe, x, lr=lr, most=settings.steps)
    count = len(images) // size
    seen = {} if coupled else {"seen": steps}
    law = gradient_law(whole.gradients(x, size), size, sizes, batches=count, **seen)
    own = _with_own_batches(law, objective, images, x, steps) if coupled else law
    yield from _rounded(_law_rows(law, own, whole.names))
    yield from _rounded(step_rows(law, own, steps))
    if settings.discard_batch and not coupled and isinstance(given, Classification):  # labels are classes
        first = images.subset(torch.arange(min(settings.discard_batch, len(images)), device=images.labels.device))
        draw = seeds.generator(seed, "gradient law", "discarded")
        yield from _rounded(_discard_rows(objective, first, x, sizes, draw))


def _drawn(images: "Images", count: int | None, seed: int, name: str, least: int) -> "Images":
    import torch

    from gapscope import seeds

    wanted = len(images) if count is None else count
    if not least <= wanted <= len(images):
        raise InputError(f"gradient_law.{name} must be in {least}..{len(images)}, got {wanted}")
    order = torch.randperm(len(images), generator=seeds.generator(seed, "gradient law", name))
    return images.subset(order[:wanted].to(images.labels.device))


def _with_own_batches(
    law: "GradientLaw", objective: Any, images: "Images", x: "Tensor", steps: "Steps"
) -> "GradientLaw":
    """Return the law with the gradients measured on batches of n images that share their batch-norm statistics."""
    from gapscope.numerics.gradient_law import batch_means

    mean_abs, mean_square = {}, {}
    for n in law.mean_abs:
        found = islice(objective(images, n).gradients(x, n), OWN_BATCHES)
        mean_abs[n], mean_square[n] = batch_means(steps.shown(n, found), law.sizes)
    return replace(law, mean_abs=mean_abs, mean_square=mean_square, group=1)


def _law_rows(law: "GradientLaw", own: "GradientLaw", names: Iterable[str]) -> "Iterator[Row]":
    """Yield the rows of each parameter tensor: laws and their parts from `law`, measured values from `own`."""
    from gapscope.numerics.gradient_law import average, exponent, spread

    layers = list(names)
    parts = spread(law)
    parts["layer_noise_scale"] = parts.pop("noise_scale")
    for quantity, estimate in parts.items():
        yield from _of_layers(layers, quantity, estimate)
    for quantity, values in (("live_share", law.live_share), ("entries", law.sizes)):
        yield from _of_layers(layers, quantity, values)
    for n in own.mean_abs:
        for quantity, measured in (("mean_abs", own.mean_abs), ("mean_square", own.mean_square)):
            yield from _of_layers(layers, quantity, average(own, measured, n), images=n)
        yield from _of_layers(layers, "gradient_batches", [len(own.mean_abs[n])] * len(layers), images=n)
        yield from _of_layers(layers, "mean_square_law", law.square_law(n), images=n)
        for name, values in law.abs_laws(n).items():
            yield from _of_layers(layers, "mean_abs_law", values, images=n, law=name)
    for n, larger in pairwise(own.mean_abs):
        yield from _of_layers(layers, "exponent", exponent(own, own.mean_abs, n, larger), images=n)


def _of_layers(layers: list[str], quantity: str, found: "Estimate | Any", **axes: Any) -> "Iterator[Row]":
    ends = ("value", "low", "high")
    columns: list[Any] = [getattr(found, end) for end in ends] if hasattr(found, "low") else [found]
    for layer, *values in zip(layers, *columns, strict=True):
        yield {"layer": layer, **axes, "quantity": quantity, **dict(zip(ends, values, strict=False))}


def _discard_rows(
    objective: Any, images: "Images", x: "Tensor", sizes: list[int], draw: "torch.Generator"
) -> "Iterator[Row]":
    """Yield the mean |g| of each tensor over the samples that are kept, from the gradient of each part of a batch."""
    import torch

    from gapscope.numerics.discarding import PARTS, discard_parts
    from gapscope.numerics.gradient_law import batch_means

    batch = objective(images)
    for choice, parts in discard_parts(batch.losses(x), images.labels, draw).items():
        kept, total = 0, torch.zeros_like(x)
        for part in reversed(range(PARTS)):  # from the last that is discarded to the whole batch
            index = (parts == part).nonzero()[:, 0].to(x.device)
            if len(index):
                _, gradient = objective(images.subset(index)).value_and_gradient(x, with_gradient=True)
                kept, total = kept + len(index), total + len(index) * gradient
            if kept:
                (values,), _ = batch_means([total / kept], sizes)
                axes = {"choice": choice, "discarded": round(part / PARTS, 1)}
                yield from _of_layers(batch.names, "discarded_mean_abs", values, **axes)


def _rounded(rows: "Iterable[Row]") -> "Iterator[Row]":
    """Yield rows with values to 10 significant digits, without those that have no value (0/0 of a frozen layer)."""
    for row in rows:
        texts = {end: f"{float(row[end]):.10g}" for end in ("value", "low", "high") if end in row}
        if texts["value"] != "nan":
            yield {**row, **{end: None if text == "nan" else float(text) for end, text in texts.items()}}


def of_seed(
    model: "nn.Module",
    data: "Dataset",
    training: "TrainSettings",
    settings: GradientLawSettings,
    *,
    seed: int,
    device: str,
) -> "OfSeed":
    """Return what the record of a seed holds; arguments and errors as of `gradient_laws`."""
    from gapscope.measures.short_training import OfSeed

    status, rows = gradient_laws(model, data, training, settings, seed=seed, device=device)
    return OfSeed(status, rows, conditions(settings, model, len(data.y_train)), printed(rows))


def conditions(settings: GradientLawSettings, model: "nn.Module", images: int) -> dict[str, Any]:
    """Return what the rows were measured on, for their record."""
    from gapscope.models import batch_norms

    count = settings.images or images
    norm = f"statistics of each batch, at most {OWN_BATCHES} batches of each n" if batch_norms(model) else "none"
    return {"images": count - count % settings.gradient_batch, "batch_norm": norm, "precision": "float32"}


def printed(rows: "Iterable[Mapping[str, Any]]") -> str:
    """Return each layer's noise scale at each epoch, as text for a terminal."""
    import pandas as pd

    listed = [row for row in rows if row["quantity"] == "layer_noise_scale"]
    table = pd.DataFrame(listed, columns=["epoch", "layer", "value", "low", "high"])
    return str(table.rename(columns={"value": "n*"}).to_string(index=False, float_format="%.4g"))


def study_table(study: "Study") -> "pd.DataFrame":
    """Return the rows of every seed, with what identifies it."""
    import pandas as pd

    return pd.concat(
        [table.assign(**about) for about, _, table in study.seed_records("gradient_law")], ignore_index=True
    )
