"""Does CBLR train LeNet-5 with any setting? A grid of rates, dampings, caps and momenta, 200 updates each.

Run by hand: `python benchmarks/cblr_search.py` takes 3 to 4 minutes of one core, prints its rows and writes
cblr_search.md beside it. The data come from where a study's data come from. LeNet-5 has no batch norm, so the
diagonal is the Hessian's own. The rate is constant, and the weight decay is 0.

A setting trains stably if every batch's loss is finite and at most twice the initial loss, and if the final loss over
the training images is below log 10, that of guessing. The best setting of each kind on seed 0 is run again on seeds
that the search has not seen.
"""

import argparse
import itertools
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.nn.functional import cross_entropy

from gapscope import config, runtime, seeds
from gapscope.data import datasets, sources
from gapscope.data.images import Images, split_images
from gapscope.models import ModelSpec, build
from gapscope.optim.optimizer import Optimizer
from gapscope.training.loop import make_optimizer_of
from gapscope.training.settings import TrainSettings

DEFAULTS = Path(__file__).parents[1] / "conf" / "config.yaml"
DATA, IMAGES, BATCH, UPDATES = "fashion_mnist_n10000", 2000, 32, 200
FRESH = (1, 2, 3)
GAMMAS, MOMENTA = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0), (0.0, 0.9)
DAMPINGS, CAPS = (0.1, 1.0, 10.0, 100.0), (None, 1.0)
SEARCHED = {"images": 8, "average": 0.9}


class Trial(NamedTuple):
    """An optimiser's name, settings, momentum and rate."""

    kind: str
    name: str
    settings: dict[str, Any]
    momentum: float
    rate: float


class Outcome(NamedTuple):
    """What became of a trial; losses over the training images, `worst` over batches, in units of the initial loss."""

    updates: int
    worst: float
    loss: float
    error_pct: float

    @property
    def stable(self) -> bool:
        """Whether it trained stably."""
        return self.updates == UPDATES and self.worst <= 2 and self.loss < math.log(10)


def trials() -> Iterator[Trial]:
    """Yield the search, and what it is compared with."""
    for damping, cap, momentum, rate in itertools.product(DAMPINGS, CAPS, MOMENTA, GAMMAS):
        yield Trial("CBLR, 1/h damped", "cblr", {**SEARCHED, "damping": damping, "cap": cap}, momentum, rate)
    for momentum, rate in itertools.product(MOMENTA, GAMMAS):
        literal = {**SEARCHED, "radius": "eq9", "damping": 0.0, "diagonal": "exact"}
        yield Trial("CBLR, equations 9-11 as printed", "cblr", literal, momentum, rate)
        yield Trial("CBLR, equation 17", "cblr", {"radius": "eq17"}, momentum, rate)
        yield Trial("SGD", "sgd", {}, momentum, rate)
    for momentum, rate in itertools.product(MOMENTA, (3e-2, 3e-1)):
        yield Trial("SGD", "sgd", {}, momentum, rate)


def outcome(trial: Trial, images: Images, seed: int) -> Outcome:
    """Train LeNet-5 for the updates, or until a loss is not finite or ten times the initial one."""
    values = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))["train"]
    own = {"name": trial.name, "settings": trial.settings, "momentum": trial.momentum, "weight_decay": 0.0}
    changes = {"batch_norm": False, **{f"optimizer.{name}": value for name, value in own.items()}}
    with seeds.seeded(seed, "initialisation"):
        model = build(ModelSpec("lenet5", (1, 28, 28), 10, batch_norm=False)).train()
    optimizer = make_optimizer_of(model, config.build(TrainSettings, values, "train").changed(changes), images, seed)
    losses = list(descent(model, optimizer, images, trial.rate, seed))
    with torch.no_grad():
        logits = model(images.inputs(slice(None)))
    loss, wrong = float(cross_entropy(logits, images.labels)), logits.argmax(1) != images.labels
    whole = len(losses) == UPDATES and math.isfinite(losses[-1])
    return Outcome(
        UPDATES if whole else len(losses) - 1,
        max(losses) / losses[0],
        loss if math.isfinite(loss) else math.inf,
        100 * float(wrong.float().mean()) if math.isfinite(loss) else 90.0,
    )


def descent(model: torch.nn.Module, optimizer: Optimizer, images: Images, rate: float, seed: int) -> Iterator[float]:
    """Yield each batch's loss before its update; the last one may be too large or not finite."""
    for update, index in enumerate(batches(len(images), seed)):
        optimizer.zero_grad()
        loss = cross_entropy(model(images.inputs(index)), images.labels[index])
        value = float(loss.detach())
        yield value if math.isfinite(value) else math.inf
        if not update:
            first = value
        if not value <= 10 * first:
            return
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(rate)


def batches(count: int, seed: int) -> Iterator[Tensor]:
    """Yield the indices of each update's batch."""
    left = UPDATES
    for epoch in itertools.count(1):
        for index in torch.randperm(count, generator=seeds.generator(seed, "order", epoch)).split(BATCH)[:left]:
            yield index
            left -= 1
        if not left:
            return


def line(trial: Trial, found: Outcome) -> str:
    """Return a row of the table."""
    settings = trial.settings
    damping, cap = settings.get("damping", ""), settings.get("cap", "") or "none"
    state = "yes" if found.stable else f"no, after {found.updates}" if found.updates < UPDATES else "no"
    loss = f"{found.loss:.3f} | {found.error_pct:.1f}" if found.updates == UPDATES else " | "
    columns = f"{damping:g} | {cap}" if trial.kind.startswith("CBLR, 1/h") else " | "
    return f"| {trial.kind} | {columns} | {trial.momentum:g} | {trial.rate:g} | {state} | {found.worst:.3g} | {loss} |"


def repeated(trial: Trial, images: Images) -> str:
    """Return the row of a setting that was best in the search, on fresh seeds."""
    found = [outcome(trial, images, seed) for seed in FRESH]
    losses, errors = ([of.loss for of in found], [of.error_pct for of in found])
    own = {name: value for name, value in trial.settings.items() if name in {"damping", "cap"}}
    about = ", ".join(f"{name} {value if value is not None else 'none'}" for name, value in own.items())
    spread = (
        f"{np.mean(losses):.3f} ± {np.std(losses, ddof=1):.3f} | {np.mean(errors):.1f} ± {np.std(errors, ddof=1):.1f}"
    )
    stable = f"{sum(of.stable for of in found)} of {len(found)}"
    return f"| {trial.kind} | {about} | {trial.momentum:g} | {trial.rate:g} | {stable} | {spread} |"


def page(found: dict[int, Outcome], tried: list[Trial], images: Images, seconds: float) -> list[str]:
    """Return the page's lines."""
    kinds = list(dict.fromkeys(trial.kind for trial in tried))
    lines = [
        "# Does CBLR train LeNet-5 with any setting?",
        "",
        f"torch {torch.__version__}, one thread, CPU, {seconds:.0f} CPU seconds. LeNet-5 without batch norm, "
        f"{IMAGES:,} training images of Fashion-MNIST, b = {BATCH}, {UPDATES} updates at a constant rate, seed 0. The "
        f"diagonal is over {SEARCHED['images']} images per update, a running mean with {SEARCHED['average']}.",
        "",
        "A setting is stable if no batch's loss exceeds twice the initial one, and the final loss is below that of "
        "guessing.",
        "",
        "| kind | settings | stable | lowest final loss |",
        "|---|---|---|---|",
    ]
    best: list[Trial] = []
    for kind in kinds:
        own = [n for n, trial in enumerate(tried) if trial.kind == kind]
        stable = sorted((found[n].loss, n) for n in own if found[n].stable)
        lines.append(f"| {kind} | {len(own)} | {len(stable)} | {f'{stable[0][0]:.3f}' if stable else 'none'} |")
        best += [tried[stable[0][1]]] if stable else []
    lines += [
        "",
        f"## The best of each kind on {len(FRESH)} seeds that the search has not seen",
        "",
        "Mean and standard deviation over seeds. The kinds were not tuned alike: the table above has their numbers of "
        "settings.",
        "",
        "| kind | settings | momentum | rate | stable | train loss | train error % |",
        "|---|---|---|---|---|---|---|",
        *(repeated(trial, images) for trial in best),
        "",
        "## All settings",
        "",
        "`worst` is the largest loss of a batch divided by the initial one.",
        "",
        "| kind | damping | cap | momentum | rate | stable | worst | train loss | train error % |",
        "|---|---|---|---|---|---|---|---|---|",
        *(line(trial, found[n]) for n, trial in enumerate(tried)),
    ]
    return lines


def main() -> None:
    """Run the search."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    runtime.set_threads(1)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        sources.fetch(DATA, Path(folder) / f"{DATA}.npz", {})
        images = split_images(datasets.load(Path(folder) / f"{DATA}.npz", DATA), "train", "cpu")
    images = images.subset(torch.arange(IMAGES))
    tried, found = list(trials()), dict[int, Outcome]()
    for number, trial in enumerate(tried):
        found[number] = outcome(trial, images, 0)
        print(line(trial, found[number]), flush=True)
    lines = page(found, tried, images, time.process_time() - start)
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
