"""What the plan refuses before anything is trained: measures too, which come hours later."""

from pathlib import Path

import pytest
from dvc.utils.hydra import compose_and_dump

from gapscope.config import load_params
from gapscope.engine import plan
from gapscope.errors import InputError

ROOT = Path(__file__).parents[2]
RADIUS = "measures=[evaluation,spectra,near_rank,sharpness,curvature_radius]"
CURVATURE = "measures=[evaluation,spectra,near_rank,sharpness,curvature,noise_scale]"
LANDSCAPE = [
    "measures=[evaluation,spectra,near_rank,sharpness,landscape]",
    "landscape.small=32",
    "landscape.large=1024",
]


def checked(folder: Path, *overrides: str) -> str:
    path = folder / "params.yaml"
    compose_and_dump(str(path), str(ROOT / "conf"), None, "config", str(ROOT), ["study=quick", *overrides])
    return plan.check(load_params(path, ROOT / "conf/config.yaml"), "digits", (1, 24, 24), 10, 2874)


def test_the_quick_study_can_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checked(tmp_path).startswith("study quick, digits: 12 cells, 1152 updates; ")
    assert checked(tmp_path, *LANDSCAPE).startswith("study quick")


@pytest.mark.parametrize(
    ("task", "targets", "overrides", "said"),
    [
        ("classification", "labels", [RADIUS], None),
        ("binary_classification", "labels", LANDSCAPE, None),
        ("multilabel_classification", "label sets", LANDSCAPE, None),
        ("regression", "numbers", [RADIUS], None),
        ("classification", "label sets", [], "set train.task=multilabel_classification"),
        ("multilabel_classification", "labels", [], "set train.task=classification"),
        ("multilabel_classification", "numbers", [], "takes label sets: .*store y as whole numbers"),
    ],
)
def test_task_data_and_measures_must_go_together(
    task: str, targets: str, overrides: list[str], said: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    asked = ["study=quick", f"train.task={task}", *overrides]
    compose_and_dump(str(path), str(ROOT / "conf"), None, "config", str(ROOT), asked)
    params = load_params(path, ROOT / "conf/config.yaml")
    if said is None:
        plan.check_task(params, "digits", targets)
        return
    with pytest.raises(InputError, match=said):
        plan.check_task(params, "digits", targets)


def test_one_logit_is_for_two_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="two classes, and the data have 10"):
        checked(tmp_path, "train.task=binary_classification")


def test_a_measure_of_what_was_not_observed_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = "measures=[evaluation,strides]"
    with pytest.raises(InputError, match=r"strides needs train.observers to list strides, got \['losses'\]"):
        checked(tmp_path, asked, "train.observers=[losses]")
    checked(tmp_path, asked, "train.observers=[strides]")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["sharpness.images=3000"], "sharpness.images.*1.*2874.*3000"),
        (["sharpness.splits=[validation]"], "sharpness.splits.*train.*test"),
        ([CURVATURE, "curvature.images=2875"], "curvature.images.*1.*2874"),
        ([CURVATURE, "curvature.precision=float16"], "curvature.precision"),
        ([CURVATURE, "curvature.layers=[conv1,convv2]"], "curvature.layers: model lenet5.*'convv2'.*'conv2'"),
        ([RADIUS, "curvature_radius.images=2875"], "curvature_radius.images.*1.*2874.*2875"),
        ([RADIUS, "curvature_radius.gradient_images=2875"], "curvature_radius.gradient_images.*1.*2874.*2875"),
        ([RADIUS, "curvature_radius.method=dense"], "curvature_radius.method must be one of exact, sampled, hutch"),
        ([CURVATURE, "noise_scale.epochs=0"], "noise_scale.*epochs.*1"),
        ([*LANDSCAPE, "landscape.alphas=24"], "landscape.alphas.*4, 7, 10"),
        (
            [*LANDSCAPE, "landscape.large=500"],
            "landscape.large.*500",
        ),
        (["sharpness.batch_norm_statistics=batched"], "sharpness.batch_norm_statistics must be one of running, batch"),
        (
            [CURVATURE, "curvature.batch_norm_statistics=eval"],
            "curvature.batch_norm_statistics must be one of running, batch, got 'eval'",
        ),
        (["activations.probe_images=2875"], "activations.probe_images.*1.*2874"),
        (["controls.seeds=[1,7]"], r"controls.seeds.*\[3, 4, 5\].*\[1, 7\]"),
        (["controls.seeds=[]"], r"controls.seeds.*\[3, 4, 5\].*\[\]"),
        (["controls.seeds=null"], "controls.seeds.*.*None"),
        (
            ["sharpness.manifold_dimension=100000"],
            "sharpness.manifold_dimension.*44652.*lenet5",
        ),
        (
            ["train.tuning.lr_candidates=[0.1]", "train.tuning.validation_images=2874"],
            "validation_images must be below 2874",
        ),
        (
            ["train.tuning.lr_candidates=[0.1]", "train.tuning.validation_images=57"],
            "in the sweep of train.tuning.lr_candidates.*batch_size 32 leaves a batch of one of the 2817 images",
        ),
        (
            ["train.schedule.batch_schedule=[{epoch: 1, batch_size: 2875, lr: null}]"],
            "batch_size must be in .1, 2874., got",
        ),
        (
            ["train.schedule.batch_schedule=[{epoch: 1, batch_size: 13, lr: null}]"],
            "batch_size 13 leaves a batch of one of the 2874 images",
        ),
        (
            [
                "train.task=tests.tasks.test_classification:Regression",
                "train.discard={share: 0.3, epochs: 2, by: class_mix, mean: kept}",
            ],
            "train.discard.by=class_mix needs the class of each sample",
        ),
        ([*LANDSCAPE, "landscape.large=32"], "landscape.small and landscape.large must be two batch sizes"),
        (
            ["train.batch.micro_batch=16", "runtime.launcher='torchrun --nproc_per_node=64'"],
            "64 ranks cannot share a batch of 32",
        ),
        ([CURVATURE, "noise_scale.images=190"], "noise_scale.images must be at least 192, 3 batches"),
        (["measures=[evaluation,gradient_law]", "gradient_law.images=100"], "gradient_law.images.*128, 4 batches"),
        (["train.optimizer.name=sgdd"], "unknown optimiser 'sgdd'; did you mean 'sgd'"),
        (["train.optimizer.name='torch.optim:SGDD'"], "train.optimizer.name.*SGDD"),
        (["+train.optimizer.settings.nesterov=true"], "train.optimizer.settings are for an import path"),
        (["train.optimizer.name=lars", "+train.optimizer.settings.trust=x"], "train.optimizer.settings.trust"),
        (["claims.arm=plane"], "unknown claims.arm 'plane'; did you mean 'plain'"),
        (["claims.arm=equal_updates"], "claims.reference must name that one"),
        (["train.observers=[stride]"], "unknown observer 'stride'; did you mean 'strides'"),
        (LANDSCAPE[:1], "landscape.small must be one of the study's batch sizes, .*; got None"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_training(
    tmp_path: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        checked(tmp_path, *overrides)
