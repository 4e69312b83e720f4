"""A rehearsal: all that a study does with a network of the user's own, on four random images, before it is trained.

It says in one line what would fail after hours of training: outputs of another form, weights that cannot be stored, a
pass in float64, a second derivative, outputs that are random in eval mode.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gapscope import seeds
from gapscope.config import Params
from gapscope.data.features import random_features, random_labels
from gapscope.data.images import Images
from gapscope.errors import InputError, reason, where_raised
from gapscope.measures.activations import ActivationSettings, unit_bytes
from gapscope.models import ModelSpec, build
from gapscope.models.hidden import untracked_batch_norms
from gapscope.numerics.loss_surface.sharpness import PRECISIONS
from gapscope.records.weights import read_weights, write_weights
from gapscope.tasks import TASKS, make_task
from gapscope.tasks.task import Task
from gapscope.training.gradient import make_update
from gapscope.training.loop import make_optimizer_of
from gapscope.training.objective import Objective
from gapscope.training.observers import make_observers
from gapscope.training.settings import TrainSettings
from gapscope.training.tuning import settings_of_sweep

IMAGES = 4
SECOND_ORDER = ("curvature", "curvature_radius", "landscape")  # measures that need second derivatives
STEP = 1e-6  # of the weights, in float64: the difference of two gradients is then known to about 1e-8
CURVED = 0.1  # relative to the gradient too: kinks of ReLU within a step, and rounding, make less
REMEDIES = {  # part of PyTorch's message -> what to do
    "dtype": "make new tensors in the type of the input, such as torch.zeros(..., dtype=x.dtype)",
    "scalar type": "make new tensors in the type of the input, such as torch.zeros(..., dtype=x.dtype)",
    "is not implemented": "replace the operation, or leave out the measures that need its derivative",
    "differentiated twice": "replace the operation, or leave out the measures that need its derivative",
    "does not require grad": "no gradient reaches a weight: leave out no_grad and detach() in forward",
    "same device": "make new tensors on the device of the input, such as torch.zeros(..., device=x.device)",
    "two devices": "make new tensors on the device of the input, such as torch.zeros(..., device=x.device)",
}


def rehearse(params: Params, spec: ModelSpec, measured: dict[str, Any], device: str) -> list[str]:
    """Try all that the study does with a network, and return what a reader should know of it, as lines.

    Args:
        params: of the study.
        spec: of the network.
        measured: the settings of the measures of a loss that the study lists, by name.
        device: that it is trained on.

    Raises:
        InputError: what does not work.
    """
    settings = params.section("train", TrainSettings).changed({"batch.micro_batch": None})
    task = make_task(settings.task)
    images = _random_images(spec, task, device)
    with seeds.seeded("rehearsal"):
        with _step(spec, "is built"):
            model = build(spec).to(device)
        with _step(spec, "takes a batch of images"):
            model.train()
            outputs = task.outputs(model, task.batch(images, slice(0, IMAGES)))
        if settings.task in TASKS and task.targets in ("labels", "label sets"):
            _check_logits(spec, outputs)
        with _step(spec, "is trained"):
            make_update(model, make_optimizer_of(model, settings, images), images, settings, task=task)(
                torch.arange(IMAGES, device=device), settings.schedule.lr_start
            )
        if all(p.grad is None for p in model.parameters()):
            raise InputError(f"model {spec.name}: no gradient reaches a weight; is forward under no_grad or detach()?")
        with _step(spec, "is stored and restored"):
            _store(model, spec, device)
        _measure(params, spec, model, images, measured)
    return _notes(params, spec, model)


def rehearse_optimizer(settings: TrainSettings, device: str) -> None:
    """Make the optimiser and the built-in observers that a study's training asks for, on one small layer.

    Raises:
        InputError: an unknown name, or settings that do not suit.
    """
    layer = nn.Linear(2, 2).to(device)
    features = random_features(IMAGES, 2, 2, "labels", seeds.generator("rehearsal", "optimizer"), device)
    optimizer = make_optimizer_of(layer, settings, features)
    built_in = [name for name in settings.observers if ":" not in name]  # a user's own may ask for a layer of theirs
    make_observers(
        built_in, dict(layer.named_parameters()), optimizer, settings_of_sweep(settings).lay_out(IMAGES, IMAGES, 1)
    )


def _measure(params: Params, spec: ModelSpec, model: nn.Module, images: Images, measured: dict[str, Any]) -> None:
    """Evaluate in eval mode, twice; in float64; and twice differentiated, as the listed measures need it."""
    task = make_task(params.section("train", TrainSettings).task)
    with _step(spec, "is evaluated"):
        Objective(model, images, micro_batch=IMAGES, dtype=torch.float32, task=task).check_steady()
    for name, group in measured.items():
        dtype = PRECISIONS[getattr(group, "precision", "float32")]
        objective = Objective(model, images, micro_batch=IMAGES, dtype=dtype, task=task)
        with _step(spec, f"is measured ({name}, {dtype})"):
            objective.value_and_gradient(objective.weights(), with_gradient=True)
        if name in SECOND_ORDER:
            with _step(spec, f"is differentiated twice ({name})"):
                objective.hvp(objective.weights(), torch.ones_like(objective.weights()))
            if name == next(each for each in SECOND_ORDER if each in measured):
                _check_product(spec, Objective(model, images, micro_batch=IMAGES, task=task))
    if "spectra" in params.groups["measures"]:
        dtype = getattr(torch, params.section("activations", ActivationSettings).precision)
        with _step(spec, f"gives activations ({dtype})"), torch.no_grad():
            twin = build(spec).to(images.labels.device, dtype).eval()
            task.outputs(twin, task.batch(images, slice(0, IMAGES), dtype=dtype))


def _check_product(spec: ModelSpec, objective: Objective) -> None:
    """Compare a product with the Hessian, in float64, with a difference of gradients.

    autograd raises where an operation has no second derivative, but not always: behind `once_differentiable` it may
    leave a part out without a word.
    """
    x = objective.weights()
    v = torch.randn(len(x), generator=seeds.generator("rehearsal", "direction")).to(x)
    try:
        ends = [objective.value_and_gradient(x + step * v, with_gradient=True)[1] for step in (STEP, -STEP)]
    except RuntimeError:
        return  # the network runs in float32 alone, whose rounding would hide the difference
    assert ends[0] is not None
    assert ends[1] is not None
    difference, product = (ends[0] - ends[1]) / (2 * STEP), objective.hvp(x, v)
    if (product - difference).norm() > CURVED * max(product.norm(), difference.norm(), ends[0].norm()):
        raise InputError(
            f"model {spec.name} gives second derivatives that are not those of its gradients: an operation has none, "
            f"or is not smooth; replace it, or leave out the measures {', '.join(SECOND_ORDER)}"
        )


def _notes(params: Params, spec: ModelSpec, model: nn.Module) -> list[str]:
    notes = []
    if "spectra" in params.groups["measures"]:
        with _step(spec, "gives activations"):
            layers, left_out = unit_bytes(model.cpu(), spec.image_shape, tokens=spec.tokens)
        if not hasattr(model, "unit_layers"):
            others = f"; not measured: {', '.join(dict.fromkeys(left_out))}" if left_out else ""
            notes.append(f"unit layers: {', '.join(layers)}{others}")
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if frozen := [name for name, _ in model.named_parameters() if name not in trained]:
        notes.append(f"frozen, so not trained, decayed or measured: {', '.join(frozen)}")
    if unused := [name for name, p in trained.items() if p.grad is None]:
        notes.append(f"without a gradient, so not trained or decayed: {', '.join(unused)}")
    if untracked := untracked_batch_norms(model):
        notes.append(f"batch norm without running statistics, which uses each batch's own: {', '.join(untracked)}")
    return [f"model {spec.name}: {note}" for note in notes]


def _check_logits(spec: ModelSpec, outputs: Any) -> None:
    wanted = (IMAGES, spec.classes)
    shapes = [wanted, wanted[:1]] if spec.classes == 1 else [wanted]
    if isinstance(outputs, torch.Tensor) and outputs.shape in shapes and outputs.is_floating_point():
        return
    shape = isinstance(outputs, torch.Tensor)
    got = f"{outputs.dtype} of shape {tuple(outputs.shape)}" if shape else f"a {type(outputs).__name__}"
    raise InputError(
        f"model {spec.name} must return logits, a float tensor {wanted} for {IMAGES} images, and returns {got}; return "
        "the logits alone, or write a train.task whose `outputs` takes them from what the network returns"
    )


def _store(model: nn.Module, spec: ModelSpec, device: str) -> None:
    with tempfile.TemporaryDirectory(prefix="gapscope-") as folder:
        path = Path(folder) / "weights.safetensors"
        write_weights(path, model.state_dict(), {}, {})
        again = build(spec).to(device)
        again.load_state_dict(read_weights(path)[0])
    for name, tensor in again.state_dict().items():
        if not torch.equal(tensor.cpu(), model.state_dict()[name].cpu()) and not tensor.isnan().any():
            raise InputError(f"model {spec.name}: {name} is not restored as it was stored")


def _random_images(spec: ModelSpec, task: Task, device: str) -> Images:
    draw = seeds.generator("rehearsal", "images")
    if len(spec.image_shape) == 1:
        features = seeds.generator("rehearsal", "features")
        return random_features(IMAGES, spec.image_shape[0], spec.classes, task.targets, features, device)
    pixels = torch.randint(0, 256, (IMAGES, *spec.image_shape), generator=draw, dtype=torch.uint8)
    statistics = (torch.full((spec.image_shape[0],), 0.5, dtype=torch.float64) for _ in range(2))
    labels = random_labels(IMAGES, spec.classes, task.targets, draw)
    return Images(*(tensor.to(device) for tensor in (pixels, labels, *statistics)))


@contextmanager
def _step(spec: ModelSpec, what: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one line."""
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # anything: it is the user's code
        said = reason(error)
        remedy = next((f"; {remedy}" for part, remedy in REMEDIES.items() if part in said), "")
        place = where_raised(error)
        raise InputError(
            f"model {spec.name} fails when it {what}: {type(error).__name__}: {said}"
            f"{f' ({place})' if place else ''}{remedy}"
        ) from error
