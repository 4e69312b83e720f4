"""Learning rate and batch size over a run: one rate for each update, one batch size for each epoch.

Oyedotun et al. 2022, section 5.2, anneal from 0.1 to 1e-4 and do not give the shape: our default is a cosine, per
update. Their Table 11 changes the batch size during the run. The rate then continues along the same curve over epochs,
unless the change gives a rate of its own. Gao & Zhong, section 3.2, train the first epoch at a smaller batch size and
rate: a change at epoch 1, and one back to the run's own batch size at epoch 2.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gapscope.errors import InputError

Curve = Callable[[float, float, int, int], float]  # start, end, step, last step -> rate
SHAPES: dict[str, Curve] = {
    # half a cosine
    "cosine": lambda start, end, step, last: end + (start - end) * (1 + math.cos(math.pi * step / last)) / 2,
    "exponential": lambda start, end, step, last: start * (end / start) ** (step / last),
    # four levels, a quarter of the run each, with a constant factor between them
    "step": lambda start, end, step, last: start * (end / start) ** (min(4 * step // last, 3) / 3),
    "constant": lambda start, _end, _step, _last: start,
}
SCALINGS: dict[str, Callable[[float], float]] = {"none": lambda _: 1.0, "linear": lambda k: k, "sqrt": math.sqrt}


MOST = 10_000_000  # updates of a run: the rate of each is held, and more would train for months


@dataclass(frozen=True)
class Switch:
    """A change from the first update of `epoch` (counted from 1) on.

    `batch_size` None: that of the run. `lr` None: along the same curve.
    """

    epoch: int
    batch_size: int | None
    lr: float | None


@dataclass(frozen=True)
class Schedule:
    """A run: batch sizes by epoch, and rates by update; the last epoch may be cut short.

    Attributes:
        batch_sizes: one for each epoch.
        updates: number of updates in each epoch.
        rates: one for each update.
    """

    batch_sizes: list[int]
    updates: list[int]
    rates: list[float]


def schedule(
    images: int,
    batch_size: int,
    *,
    epochs: int,
    updates: int | None,
    switches: Sequence[Switch],
    drop_last: bool,
    rate: Callable[[float | None, int, int], float],
    warmup_epochs: float,
) -> Schedule:
    """Return the schedule of a run.

    Args:
        images: size of the training set.
        batch_size: of the run: until the first switch, and where a switch names none.
        epochs: length of the run, unless `updates` gives it.
        updates: length of the run in updates; None: given by epochs.
        switches: changes of batch size or rate, by epoch.
        drop_last: leave out an epoch's last, smaller batch.
        rate: (a switch's rate or None, step, last step) -> rate.
        warmup_epochs: length of a linear rise of the rate up to the curve.

    Raises:
        InputError: switches out of order or outside the run, or combined with `updates`; a batch size outside 1..n.
    """
    starts = [switch.epoch for switch in switches]
    if starts != sorted(set(starts)) or any(not 1 <= start <= epochs for start in starts):
        raise InputError(f"train.schedule.batch_schedule: its epochs must rise, from 1 to {epochs}, got {starts}")
    if updates is not None and (switches or updates < 1):
        raise InputError("train.schedule.updates must be at least 1, and excludes train.schedule.batch_schedule")
    sizes = (batch_size, *(switch.batch_size for switch in switches if switch.batch_size is not None))
    for size in sizes:
        if not 1 <= size <= images:
            raise InputError(
                f"batch_size must be in [1, {images}], got {size}; there are {images} training images (set batch_sizes)"
            )

    def updates_of(size: int) -> int:
        return images // size if drop_last else -(-images // size)

    if updates is not None:
        epochs = -(-updates // updates_of(batch_size))
    if (longest := epochs * max(map(updates_of, sizes))) > MOST:
        raise InputError(f"a run of {longest:,} updates is refused, more than {MOST:,}; set epochs or batch_sizes")
    laid: list[tuple[int, float | None]] = []  # of each epoch: batch size, and the latest rate given by a switch
    current, lr = batch_size, None
    by_epoch = {switch.epoch: switch for switch in switches}
    for epoch in range(1, epochs + 1):
        if switch := by_epoch.get(epoch):
            current = batch_size if switch.batch_size is None else switch.batch_size
            lr = lr if switch.lr is None else switch.lr
        laid.append((current, lr))
    whole = [updates_of(size) for size, _ in laid]
    counts = whole if updates is None else [*whole[:-1], updates - sum(whole[:-1])]

    # whole numbers, so that both ends are exact: an epoch has length `unit` at any batch size
    unit = math.lcm(*whole)
    last = (epochs - 1) * unit + (counts[-1] - 1) * (unit // whole[-1])
    rates, begin = [], 0
    for epoch, ((_, lr), count) in enumerate(zip(laid, counts, strict=True)):
        if epoch and lr != laid[epoch - 1][1]:
            begin = epoch * unit
        for update in range(count):
            step, warmup = epoch * unit + update * (unit // whole[epoch]), warmup_epochs * unit
            warm = min(1.0, (step + unit // whole[epoch]) / warmup) if warmup else 1.0
            rates.append(warm * rate(lr, step - begin, last - begin))
    return Schedule([size for size, _ in laid], counts, rates)


def curve(shape: str, start: float, end: float, step: int, last: int) -> float:
    """Return the rate at `step` in 0..last on a curve that meets both its ends exactly (`constant`: only `start`).

    Example:
        >>> [round(curve("cosine", 1.0, 0.0, step, 2), 4) for step in range(3)]
        [1.0, 0.5, 0.0]
    """
    if step in {0, last} and shape != "constant":  # no rounding at the ends
        return end if step else start
    return SHAPES[shape](start, end, step, last)
