"""Whether a study can run, and how many updates it takes, before its first cell starts."""

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from gapscope import measures, papers
from gapscope.claims.verdicts import ClaimSettings
from gapscope.config import Params
from gapscope.engine.rehearsal import rehearse, rehearse_optimizer
from gapscope.errors import InputError
from gapscope.measures.activations import ActivationSettings, activation_bytes
from gapscope.measures.curvature import CurvatureSettings
from gapscope.measures.curvature_radius import CurvatureRadiusSettings
from gapscope.measures.gradient_law import GradientLawSettings
from gapscope.measures.landscape import LandscapeSettings
from gapscope.measures.noise_scale import NoiseScaleSettings
from gapscope.measures.sharpness import SharpnessSettings
from gapscope.measures.spectra import SpectraSettings
from gapscope.models import build
from gapscope.models.hidden import on_meta_or_cpu
from gapscope.models.layers import blocks
from gapscope.records.cells import Cell, cells
from gapscope.runtime import RuntimeSettings, check_disk, pick_device
from gapscope.tasks import TASKS, make_task
from gapscope.training.batches import check_batches
from gapscope.training.discarding import check_discarding
from gapscope.training.distributed import requested_ranks
from gapscope.training.networks import study_spec
from gapscope.training.objective import STATISTICS
from gapscope.training.settings import TrainSettings
from gapscope.training.tuning import settings_of_sweep

SETTINGS: dict[str, Any] = {  # of the measures that have a loss over training images
    "sharpness": SharpnessSettings,
    "curvature": CurvatureSettings,
    "curvature_radius": CurvatureRadiusSettings,
    "noise_scale": NoiseScaleSettings,
    "gradient_law": GradientLawSettings,
    "landscape": LandscapeSettings,
}
FEWEST_BATCHES = {"noise_scale": 3, "gradient_law": 4}  # of gradient_batch images, among the images of a measure


def check_task(params: Params, dataset: str, targets: str) -> None:
    """Raise InputError if the study's task and its data do not go together.

    Args:
        params: of the study.
        dataset: its name.
        targets: what the data set has: "labels", "label sets", "numbers" or "tokens".
    """
    name = params.section("train", TrainSettings).task
    wanted = make_task(name).targets
    if wanted != targets:
        remedy = {
            "numbers": "set train.task=regression, or store y as whole numbers if they are classes",
            "labels": "set train.task=classification, or store y as floating-point numbers if they are no classes",
            "label sets": "set train.task=multilabel_classification",
            "tokens": "set train.task=language_model",
        }[targets]
        raise InputError(f"{dataset} has {targets} as targets, and train.task={name} takes {wanted}: {remedy}")


def check_measures(params: Params, train_images: int) -> None:
    """Raise InputError if a measure of the study cannot be taken, before hours of training."""
    listed, settings = params.groups["measures"], {}
    measures.check(listed)
    _check_observers(params)
    for name, kind in SETTINGS.items():
        if name in listed:
            settings[name] = params.section(name, kind)
    if "landscape" in listed:
        _check_landscape(params, settings["landscape"])
    for name, group in settings.items():
        _check_images(name, group, train_images)
        mode = getattr(group, "batch_norm_statistics", STATISTICS[0])
        if not isinstance(mode, tuple) and mode not in STATISTICS:  # a list is checked by its settings
            raise InputError(f"{name}.batch_norm_statistics must be one of {', '.join(STATISTICS)}, got {mode!r}")
    if "spectra" not in listed:
        return
    probe = params.section("activations", ActivationSettings).probe_images
    if not 1 <= probe <= train_images:
        raise InputError(f"activations.probe_images must be in 1..{train_images}, the training images, got {probe}")
    if not (seeds := params.groups["controls"]["seeds"]):
        raise InputError(
            f"controls.seeds must name at least one of the study's seeds, {list(params.seeds)}; got {seeds}"
        )
    cut = params.section("spectra", SpectraSettings).cut
    if (highest := max(params.thresholds)) > cut:
        raise InputError(
            f"spectra.cut must be at least the highest threshold, {highest:g}, to count there; got {cut:g}"
        )
    if unknown := set(seeds) - set(params.seeds):
        raise InputError(f"controls.seeds must be among the study's seeds, {list(params.seeds)}; got {sorted(unknown)}")


def _check_images(name: str, group: Any, train_images: int) -> None:
    """Raise InputError if a measure asks for more images than there are, or for too few to make its batches."""
    for count in ("images", "gradient_images"):
        asked_for = getattr(group, count, None)
        if asked_for is not None and not 1 <= asked_for <= train_images:
            raise InputError(f"{name}.{count} must be in 1..{train_images}, the training images, got {asked_for}")
    if name in FEWEST_BATCHES:
        least, found = FEWEST_BATCHES[name] * group.gradient_batch, group.images or train_images
        if found < least:
            raise InputError(
                f"{name}.images must be at least {least}, {FEWEST_BATCHES[name]} batches of {name}.gradient_batch, got "
                f"{found}; set a smaller gradient_batch, or more images"
            )


def _check_observers(params: Params) -> None:
    observers = params.groups["train"]["observers"]
    for name in params.groups["measures"]:
        needed = getattr(measures.MEASURES[name], "OBSERVER", None)
        if needed and needed not in observers:
            raise InputError(f"the measure {name} needs train.observers to list {needed}, got {observers}")


def _check_landscape(params: Params, landscape: LandscapeSettings) -> None:
    for end in ("small", "large"):
        if (size := getattr(landscape, end)) not in params.batch_sizes:
            sizes = ", ".join(map(str, dict.fromkeys(params.batch_sizes)))
            raise InputError(f"landscape.{end} must be one of the study's batch sizes, {sizes}; got {size}")
    if (size := landscape.small) == landscape.large:
        raise InputError(
            f"landscape.small and landscape.large must be two batch sizes, both are {size}; set landscape.large "
            "(or batch_size, if landscape.large is ${batch_size})"
        )


def check_sweep(model: nn.Module, train_images: int, batch_size: int, settings: TrainSettings) -> None:
    """Raise InputError if the learning-rate sweep cannot run on the images that are not held out."""
    if not settings.tuning.lr_candidates:
        return
    held_out = settings.tuning.validation_images
    rest = train_images - held_out
    if rest < 1:
        raise InputError(f"train.tuning.validation_images must be below {train_images}, got {held_out}")
    plain = settings_of_sweep(settings)
    run = plain.lay_out(rest, min(batch_size, rest), settings.tuning.lr_sweep_epochs)
    try:
        check_batches(model, rest, run, plain)
    except InputError as error:
        raise InputError(
            f"in the sweep of train.tuning.lr_candidates, with validation_images held out: {error}"
        ) from error


def check(
    params: Params,
    dataset: str,
    image_shape: tuple[int, ...],
    classes: int,
    train_images: int,
) -> str:
    """Check the study's cells on one data set, and return in words how many there are and what they need.

    Raises:
        InputError: an unknown model or task, an impossible batch size, or too little disk.
    """
    settings = params.section("train", TrainSettings)
    check_discarding(settings.discard, make_task(settings.task))
    params.section("claims", ClaimSettings).check(params.study, papers.claims())
    rehearse_optimizer(settings, pick_device())
    ranks = requested_ranks(params.section("runtime", RuntimeSettings).launcher)
    check_measures(params, train_images)
    probe = params.section("activations", ActivationSettings).probe_images
    listed = params.groups["measures"]
    todo = [cell for cell in cells(params) if cell.dataset == dataset]
    updates = needed_bytes = 0
    notes = rehearse_models(params, todo, image_shape, classes)
    for cell in todo:
        spec = study_spec(params, cell.model, image_shape, classes)
        model = on_meta_or_cpu(partial(build, spec))
        run = settings.lay_out(train_images, cell.batch_size, params.epochs)
        check_batches(model, train_images, run, settings, ranks)
        check_sweep(model, train_images, cell.batch_size, settings)
        if "curvature" in listed:
            blocks(
                model, params.section("curvature", CurvatureSettings).layers, f"curvature.layers: model {cell.model}"
            )
        weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
        dimension = params.groups["sharpness"]["manifold_dimension"]
        if "sharpness" in listed and dimension > weights:
            raise InputError(
                f"sharpness.manifold_dimension must be at most {weights}, the number of weights of {cell.model}; "
                f"got {dimension}"
            )
        updates += sum(run.updates)
        if "spectra" in listed and not cell.run("activations").exists():
            needed_bytes += activation_bytes(model, image_shape, tokens=spec.tokens) * (cell.batch_size + probe)
    needs = check_disk(Path(), needed_bytes)
    return "\n".join([f"study {params.study}, {dataset}: {len(todo)} cells, {updates} updates; {needs}", *notes])


def rehearse_models(
    params: Params, cells_of_dataset: list[Cell], image_shape: tuple[int, ...], classes: int
) -> list[str]:
    """Rehearse each network that the user wrote, or trains on a task of their own; return what there is to know of it.

    Raises:
        InputError: what does not work.
    """
    listed = {name: params.section(name, kind) for name, kind in SETTINGS.items() if name in params.groups["measures"]}
    own_task = params.section("train", TrainSettings).task not in TASKS
    notes = []
    for name in dict.fromkeys(cell.model for cell in cells_of_dataset):
        spec = study_spec(params, name, image_shape, classes)
        if spec.source is not None or own_task:
            notes += rehearse(params, spec, listed, pick_device())
    return notes
