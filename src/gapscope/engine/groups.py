"""Every group of params and its settings class, so that all of a study's values are checked before any stage runs."""

from collections.abc import Collection
from importlib import import_module

from gapscope.config import Params

SETTINGS = {  # group -> where its class is; imported when it is checked
    "code": "gapscope.models:CodeSettings",  # it imports torch
    "data": "gapscope.data.sources:DataSettings",
    "train": "gapscope.training.settings:TrainSettings",
    "activations": "gapscope.measures.activations:ActivationSettings",
    "spectra": "gapscope.measures.spectra:SpectraSettings",
    "controls": "gapscope.measures.controls:ControlSettings",
    "near_rank": "gapscope.measures.near_rank:NearRankSettings",
    "sharpness": "gapscope.measures.sharpness:SharpnessSettings",
    "curvature": "gapscope.measures.curvature:CurvatureSettings",
    "curvature_report": "gapscope.measures.curvature:CurvatureReportSettings",
    "curvature_radius": "gapscope.measures.curvature_radius:CurvatureRadiusSettings",
    "noise_scale": "gapscope.measures.noise_scale:NoiseScaleSettings",
    "gradient_law": "gapscope.measures.gradient_law:GradientLawSettings",
    "warmstart": "gapscope.measures.warm_start:WarmstartSettings",
    "landscape": "gapscope.measures.landscape:LandscapeSettings",
    "claims": "gapscope.claims.verdicts:ClaimSettings",
    "tables": "gapscope.report.gap:TableSettings",
    "random_matrices": "gapscope.measures.random_matrices:RandomMatrixSettings",
    "perturbation": "gapscope.measures.perturbation:PerturbationSettings",
    "runtime": "gapscope.runtime:RuntimeSettings",
}


def check_groups(params: Params, leave_out: Collection[str] = ()) -> None:
    """Build the settings of every group of a study.

    Args:
        params: of the study.
        leave_out: groups that are not looked at.

    Raises:
        InputError: an unknown or missing key, or a value of the wrong type or out of range.
    """
    for name, place in SETTINGS.items():
        if name in params.groups and name not in leave_out:
            module, _, cls = place.partition(":")
            params.section(name, getattr(import_module(module), cls))
