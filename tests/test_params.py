"""conf/ is the source, params.yaml its composition; every study composes, and every group has its settings class."""

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from dvc.utils.hydra import compose_and_dump

from gapscope import papers
from gapscope.claims.verdicts import ClaimSettings
from gapscope.config import Params, load_params
from gapscope.data.datasets import DataSettings
from gapscope.errors import InputError
from gapscope.measures.activations import ActivationSettings
from gapscope.measures.controls import ControlSettings
from gapscope.measures.curvature import GeometrySettings
from gapscope.measures.near_rank import NearRankSettings
from gapscope.measures.noise_scale import NoiseScaleSettings
from gapscope.measures.spectra import SpectraSettings
from gapscope.measures.warm_start import WarmstartSettings
from gapscope.models import CodeSettings
from gapscope.numerics.loss_surface.landscape import LandscapeSettings
from gapscope.numerics.loss_surface.sharpness import SharpnessSettings
from gapscope.numerics.perturbation import PerturbationSettings
from gapscope.numerics.random_matrices import RandomMatrixSettings
from gapscope.report.curvature import CurvatureReportSettings
from gapscope.report.gap import TableSettings
from gapscope.training.settings import TrainSettings

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path.stem for path in (ROOT / "conf/study").glob("*.yaml"))
OTHER_NAMES = {"keskar_table4": "keskar_table3"}  # of one study
SETTINGS = {
    "code": CodeSettings,
    "data": DataSettings,
    "train": TrainSettings,
    "activations": ActivationSettings,
    "spectra": SpectraSettings,
    "controls": ControlSettings,
    "near_rank": NearRankSettings,
    "sharpness": SharpnessSettings,
    "curvature": GeometrySettings,
    "curvature_report": CurvatureReportSettings,
    "noise_scale": NoiseScaleSettings,
    "warmstart": WarmstartSettings,
    "landscape": LandscapeSettings,
    "claims": ClaimSettings,
    "tables": TableSettings,
    "random_matrices": RandomMatrixSettings,
    "perturbation": PerturbationSettings,
}
READ_BY_DVC = {"pipelines", "noops"}


@cache
def composed(*overrides: str) -> str:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "params.yaml"
        compose_and_dump(str(out), str(ROOT / "conf"), None, "config", str(ROOT), list(overrides))
        return out.read_text()


def compose(folder: Path, *overrides: str) -> Path:
    out = folder / "params.yaml"
    out.write_text(composed(*overrides))
    return out


def load(path: Path) -> Params:
    return load_params(path, ROOT / "conf/config.yaml")


def test_params_yaml_is_the_composition_of_its_study(tmp_path: Path) -> None:
    # what is committed: an experiment of the user's may have composed anew since
    show = subprocess.run(["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, text=True, check=True)
    (tmp_path / "committed.yaml").write_text(show.stdout)
    assert load(tmp_path / "committed.yaml").study == "quick"
    assert show.stdout == compose(tmp_path).read_text()


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_composes_and_every_group_is_read(study: str, tmp_path: Path) -> None:
    params = load(compose(tmp_path, f"study={study}"))
    assert params.study == OTHER_NAMES.get(study, study)  # its folder
    assert set(params.groups) == {*SETTINGS, *READ_BY_DVC}
    for name, settings in SETTINGS.items():
        params.section(name, settings)


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_runs_its_pipelines_under_its_own_name(study: str, tmp_path: Path) -> None:
    pipelines = load(compose(tmp_path, f"study={study}")).groups["pipelines"]
    declared = load(compose(tmp_path)).groups["pipelines"]
    assert set(pipelines) == set(declared)
    assert all(studies in ([], [OTHER_NAMES.get(study, study)]) for studies in pipelines.values())
    assert any(pipelines.values())
    assert not (pipelines["warmstart"] and pipelines["networks"])  # both write summary.json
    for measured in ("curvature", "landscape"):  # they measure what networks trains
        assert not (pipelines[measured] and not pipelines["networks"])


def test_the_landscape_lies_between_two_batch_sizes_of_its_study(tmp_path: Path) -> None:
    params = load(compose(tmp_path, "study=keskar_table3", "batch_size=100"))
    settings = params.section("landscape", LandscapeSettings)
    assert (settings.small, settings.large) == (256, 6000)
    assert settings.micro_batch >= settings.images  # the training loss has no ghost batches


@pytest.mark.parametrize(
    "study",
    sorted(study for study in STUDIES if study != "random_matrices" and not study.startswith("keskar_warmstart")),
)
def test_batch_size_adds_a_cell_and_its_default_adds_none(study: str, tmp_path: Path) -> None:
    plain = set(load(compose(tmp_path, f"study={study}")).batch_sizes)
    widened = set(load(compose(tmp_path, f"study={study}", "batch_size=100")).batch_sizes)
    assert widened == plain | {100}
    assert 100 not in plain


def test_an_unknown_key_in_a_study_is_refused(tmp_path: Path) -> None:
    path = compose(tmp_path)
    path.write_text(path.read_text() + "bacth_size: 4\n")
    with pytest.raises(InputError, match="'batch_size'"):
        load(path)


def test_every_param_has_a_comment_with_its_role() -> None:
    for line in (ROOT / "conf/config.yaml").read_text().splitlines():
        if ":" in line and not line.lstrip().startswith(("#", "-")) and not line.rstrip().endswith(":"):
            assert "#" in line, line


PRINTED = pd.read_csv(ROOT / "src/gapscope/papers/oyedotun2022/tables.csv")
VARIANTS = {"no_batch_norm": {"batch_norm": False}, "linear": {"linear": "units"}}


@pytest.mark.parametrize("table", range(1, 12))
def test_the_studies_of_the_papers_tables_have_its_cells_and_settings(table: int, tmp_path: Path) -> None:
    rows = PRINTED[PRINTED["table"] == table]
    params = load(compose(tmp_path, f"study=table{table:02d}"))
    assert params.study == f"table{table:02d}"
    found = papers.printed_item(params.study)
    assert found
    assert (found[0].folder, found[1].printed) == ("oyedotun2022", table)
    assert (params.models, params.datasets) == ((rows["model"].iloc[0],), (rows["dataset"].iloc[0],))
    assert sorted(set(params.batch_sizes)) == sorted(rows["batch_size"])
    settings, images = params.section("train", TrainSettings), "cifar" in params.datasets[0]
    assert (settings.lr_start, settings.lr_end, settings.momentum, settings.lr_scaling) == (0.1, 1e-4, 0.9, "none")
    assert (params.epochs, settings.weight_decay) == ((200, 1e-4) if images else (60, 5e-4))
    variant = VARIANTS.get(rows["variant"].iloc[0], {})
    assert (settings.batch_norm, settings.linear) == (variant.get("batch_norm", True), variant.get("linear", False))
    switches = [(switch.epoch, switch.batch_size) for switch in settings.batch_schedule]
    assert switches == ([(31, 128)] if table == 11 else [])
    if images:
        plain = load(compose(tmp_path, f"study=table{table:02d}_unaugmented")).section("train", TrainSettings)
        assert (settings.augment, plain.augment) == (True, False)
