"""conf/ is the source, params.yaml its composition; every study composes, and every group has its settings class."""

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
import yaml
from dvc.utils.hydra import compose_and_dump
from scripts import run

from gapscope import measures, noops, papers
from gapscope.claims.verdicts import ClaimSettings
from gapscope.cli import compose as compose_command
from gapscope.config import Params, declared_names, load_params
from gapscope.data.sources import DataSettings
from gapscope.engine import groups
from gapscope.errors import InputError
from gapscope.measures.activations import ActivationSettings
from gapscope.measures.controls import ControlSettings
from gapscope.measures.curvature import CurvatureReportSettings, CurvatureSettings
from gapscope.measures.curvature_radius import CurvatureRadiusSettings
from gapscope.measures.gradient_law import GradientLawSettings
from gapscope.measures.landscape import LandscapeSettings
from gapscope.measures.near_rank import NearRankSettings
from gapscope.measures.noise_scale import NoiseScaleSettings
from gapscope.measures.perturbation import PerturbationSettings
from gapscope.measures.random_matrices import RandomMatrixSettings
from gapscope.measures.sharpness import SharpnessSettings
from gapscope.measures.spectra import SpectraSettings
from gapscope.measures.warm_start import WarmstartSettings
from gapscope.models import CodeSettings
from gapscope.renamed import RENAMED, renamed
from gapscope.report.gap import TableSettings
from gapscope.runtime import RuntimeSettings
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
    "curvature": CurvatureSettings,
    "curvature_report": CurvatureReportSettings,
    "curvature_radius": CurvatureRadiusSettings,
    "noise_scale": NoiseScaleSettings,
    "gradient_law": GradientLawSettings,
    "warmstart": WarmstartSettings,
    "landscape": LandscapeSettings,
    "claims": ClaimSettings,
    "tables": TableSettings,
    "random_matrices": RandomMatrixSettings,
    "perturbation": PerturbationSettings,
    "runtime": RuntimeSettings,
}
READ_BY_DVC = {"measures", "pipelines", "records", "noops"}


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


@cache
def loaded(*overrides: str) -> Params:
    with TemporaryDirectory() as folder:
        return load(compose(Path(folder), *overrides))


def test_params_yaml_is_the_composition_of_its_study(tmp_path: Path) -> None:
    # what is committed: an experiment of the user's may have composed anew since
    show = subprocess.run(["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, text=True, check=True)
    (tmp_path / "committed.yaml").write_text(show.stdout)
    assert load(tmp_path / "committed.yaml").study == "quick"
    assert show.stdout == compose(tmp_path).read_text()


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_composes_and_every_group_is_read(study: str) -> None:
    params = loaded(f"study={study}")
    assert params.study == OTHER_NAMES.get(study, study)  # its folder
    assert set(params.groups) == {*SETTINGS, *READ_BY_DVC}
    for name, settings in SETTINGS.items():
        params.section(name, settings)


def test_the_values_of_every_group_are_checked_before_any_stage_runs() -> None:
    classes = {name: place.rpartition(":")[2] for name, place in groups.SETTINGS.items()}
    assert classes == {name: SETTINGS[name].__name__ for name in classes}
    assert {"train", "sharpness", "runtime", "claims"} <= set(classes)


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_runs_its_pipelines_under_its_own_name(study: str) -> None:
    pipelines = loaded(f"study={study}").groups["pipelines"]
    declared = loaded().groups["pipelines"]
    assert set(pipelines) == set(declared)
    assert all(studies in ([], [OTHER_NAMES.get(study, study)]) for studies in pipelines.values())
    assert any(pipelines.values())
    listed = loaded(f"study={study}").groups["measures"]
    measures.check(listed)
    assert {name for name, studies in pipelines.items() if studies} - {"claims"} == set(listed) & set(pipelines)


def test_the_folders_that_tables_and_figures_depend_on_are_those_of_the_measures(tmp_path: Path) -> None:
    """A stage cannot depend on what is not there, so that a measure that is not listed is replaced by one that is."""
    alone = load(compose(tmp_path, "measures=[evaluation]")).groups["records"]
    assert set(alone.values()) == {"train", "runs.csv", "claims/quick.csv"}
    whole = load(compose(tmp_path)).groups["records"]
    assert (whole["sharpness"], whole["near_rank"], whole["curvature"]) == ("sharpness", "near_rank.csv", "train")
    assert set(load(compose(tmp_path, "study=keskar_warmstart")).groups["records"].values()) == {
        "warmstart", "warmstart.csv", "claims/keskar_warmstart.csv",
    }  # fmt: skip


@pytest.mark.parametrize("override", ["pipelines.evaluation=[other]", "pipelines.sharpness=[]", "records.runs=other"])
def test_a_param_that_follows_from_measures_cannot_be_set(override: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name = override.partition("=")[0]
    with pytest.raises(InputError, match=f"^{name} follows from measures and cannot be set") as refused:
        compose_command.composed(["study=quick", override])
    assert "\n" not in str(refused.value)


def test_an_unknown_task_is_refused_when_it_is_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=r"train\.task: unknown task 'clasification'; did you mean 'classification'"):
        compose_command.composed(["study=quick", "train.task=clasification"])


def test_a_page_depends_on_no_verdicts_but_its_own(tmp_path: Path) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert "metrics/${records.verdicts}" in stages["report"]["deps"]
    assert not any("claims" in dep for dep in stages["report"]["deps"])
    for study, place in (("quick", "claims/quick.csv"), ("random_matrices", "random_matrices")):
        assert load(compose(tmp_path, f"study={study}")).groups["records"]["verdicts"] == place


def test_the_landscape_lies_between_two_batch_sizes_of_its_study(tmp_path: Path) -> None:
    params = load(compose(tmp_path, "study=keskar_table3", "batch_size=100"))
    settings = params.section("landscape", LandscapeSettings)
    assert (settings.small, settings.large) == (256, 6000)
    assert settings.micro_batch >= settings.images  # the training loss has no ghost batches


@pytest.mark.parametrize(
    "study",
    sorted(study for study in STUDIES if study != "random_matrices" and not study.startswith("keskar_warmstart")),
)
def test_batch_sizes_end_with_the_one_to_add_whose_default_adds_none(study: str) -> None:
    *listed, default = loaded(f"study={study}").batch_sizes
    assert default in listed
    own = yaml.safe_load((ROOT / f"conf/study/{study}.yaml").read_text())
    assert own.get("batch_sizes", ["${batch_size}"])[-1] == "${batch_size}"  # or it is inherited


def test_batch_size_adds_a_cell() -> None:
    for study in ("quick", "example_switched"):  # with batch sizes of its own, and of another
        assert loaded(f"study={study}", "batch_size=100").batch_sizes == (
            *loaded(f"study={study}").batch_sizes[:-1], 100,
        )  # fmt: skip


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
VARIANTS = {"no_batch_norm": {"batch_norm": False}, "linear": {"linear_units": True}}


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
    rates, optimizer = settings.schedule, settings.optimizer
    assert (rates.lr_start, rates.lr_end, optimizer.momentum, rates.lr_scaling) == (0.1, 1e-4, 0.9, "none")
    assert (params.epochs, optimizer.weight_decay) == ((200, 1e-4) if images else (60, 5e-4))
    variant = VARIANTS.get(rows["variant"].iloc[0], {})
    assert settings.switches == (variant.get("batch_norm", True), variant.get("linear_units", False), False)
    switches = [(switch.epoch, switch.batch_size) for switch in rates.batch_schedule]
    assert switches == ([(31, 128)] if table == 11 else [])
    if images:
        plain = load(compose(tmp_path, f"study=table{table:02d}_unaugmented")).section("train", TrainSettings)
        assert (settings.augment, plain.augment) == (True, False)


# --- params that have a new name --------------------------------------------------------------------------------------

OLD = "54c90e6"  # the last commit with the old names
COMMITTED = ["example", "table05", "table11", "keskar_table3", "random_matrices"]


def old_file(path: str) -> dict[str, Any]:
    show = subprocess.run(["git", "show", f"{OLD}:{path}"], cwd=ROOT, capture_output=True, text=True, check=False)
    if show.returncode:
        pytest.skip(f"commit {OLD} is not in this clone, which is shallow")
    return yaml.safe_load(show.stdout)


def old_studies() -> list[str]:
    command = ["git", "ls-tree", "-r", "--name-only", OLD, "metrics"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    return sorted(name.split("/")[1] for name in names if name.endswith("/params.yaml"))


CHANGED = {"pipelines", "records", "measures", "noops", "code", "models", "tables", "spectra"}  # by more than a name
CHANGED |= {"curvature_radius", "gradient_law"}  # new


@pytest.mark.parametrize("study", [name for name in old_studies() if name != "quick"] or COMMITTED)  # it is another now
def test_committed_params_of_the_old_names_are_those_that_are_composed_now(study: str) -> None:
    old = renamed(old_file(f"metrics/{study}/params.yaml"))
    found = yaml.safe_load(composed(f"study={study}"))
    assert renamed(found) == found  # what has the new names stays
    found["claims"].pop("seen_seeds", None)  # new
    old, found = ({key: of[key] for key in of if key not in CHANGED} for of in (old, found))
    assert noops.left_out(old) == found


def test_every_old_name_was_one_and_is_none_now() -> None:
    old = old_file("metrics/quick/params.yaml")
    now = declared_names(ROOT / "conf/config.yaml")
    for name, news in RENAMED.items():
        group, key = name.split(".")
        assert key in old[group]
        assert name not in now or name in {"train.optimizer", "train.precision"}  # groups, now
        assert {*news} <= now
    assert len({new for news in RENAMED.values() for new in news}) == sum(map(len, RENAMED.values()))


@pytest.mark.parametrize(
    ("group", "hint"),
    [
        ("train: {lr_start: 0.1, patience: 3}", "train.lr_start is now train.schedule.lr_start; train.patience is now"),
        ("train: {linear: true}", "train.linear=true is now train.linear_units=true with train.average_pooling=true"),
        ("train: {optimizer: adam}", "train.optimizer is now train.optimizer.name"),
        (
            "activations: {batch_norm: eval}",
            "activations.batch_norm=eval is now activations.batch_norm_statistics=running",
        ),
        ("activations: {batch_norm: other}", "activations.batch_norm is now activations.batch_norm_statistics"),
        ("random_matrices: {workers: 3}", "random_matrices.workers is now runtime.workers"),
    ],
)
def test_an_old_name_is_answered_with_the_new_one(tmp_path: Path, group: str, hint: str) -> None:
    (tmp_path / "params.yaml").write_text(f"study: mine\n{group}\n")
    with pytest.raises(InputError, match="params have new names") as refused:
        load(tmp_path / "params.yaml")
    assert hint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wrong", [{"train": {"linear": "Units"}}, {"activations": {"batch_norm": ["eval"]}}])
def test_an_old_value_that_there_never_was_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be one of"):
        renamed(wrong)


def test_no_stage_depends_on_the_runtime_group() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    listed = {name for stage in stages.values() for name in stage.get("params", []) if isinstance(name, str)}
    assert not any(name.startswith("runtime") for name in listed)
    groups = yaml.safe_load((ROOT / "conf/config.yaml").read_text())
    kept = {name for name in stages["settings"]["params"] if isinstance(name, str)}
    assert kept == {*groups} - {"defaults", "runtime", "records"}  # records are derived from measures


def test_overrides_and_interpolations_reach_params_within_groups(tmp_path: Path) -> None:
    overrides = ("train.schedule.lr_start=0.2", "train.evaluation.eval_batch=${sharpness.micro_batch}")
    own = ("+train.optimizer.settings.eps=1.0e-6", "train.optimizer.name='torch.optim:AdamW'")
    settings = load(compose(tmp_path, *overrides, *own)).section("train", TrainSettings)
    assert (settings.schedule.lr_start, settings.evaluation.eval_batch) == (0.2, 1000)
    assert (settings.optimizer.name, settings.optimizer.settings) == ("torch.optim:AdamW", {"eps": 1e-6})


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.optimizer.decay=biases", "train.optimizer.decay must be one of weights, all, got 'biases'"),
        ("train.schedule.lr_shape=line", "train.schedule.lr_shape must be one of cosine, "),
        ("train.schedule.lr_start=-1", "train.schedule.lr_start must be a number >= 0, got -1.0"),
        (
            "train.schedule.warmup_epochs=-1",
            "train.schedule.warmup_epochs must be at least 0 and at most 100000, got -1.0",
        ),
        ("train.schedule.patience=0", "train.schedule.patience must be at least 1, got 0"),
        ("train.schedule.lr_start=much", "param train.schedule.lr_start must be a number, got the text 'much'"),
        ("train.tuning.lr_candidates=[0.1]", "train.tuning.validation_images must be at least 1 with"),
        ("train.batch.micro_batch=0", "train.batch.micro_batch must be at least 1, got 0"),
        ("train.batch.micro_batch_norm=some", "train.batch.micro_batch_norm must be one of whole, ghost, got 'some'"),
        ("train.precision.compute=float16", "train.precision.compute must be one of float32, bfloat16, got 'float16'"),
        ("train.evaluation.eval_batch=1", "train.evaluation.eval_batch must be at least 2"),
        ("+train.schedule.lr=1.0", "unknown param 'train.schedule.lr'; did you mean 'lr_"),
        ("~train.batch.micro_batch_norm", "missing param 'train.batch.micro_batch_norm'"),
        ("train.threads=0", "train.threads must be at least 1 and at most 1024, got 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_whole_name(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        load(compose(tmp_path, override)).section("train", TrainSettings)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_geometric_curve_needs_rates_above_zero(tmp_path: Path) -> None:
    candidates = ("train.tuning.lr_candidates=[0.1,0.0]", "train.tuning.validation_images=5")
    with pytest.raises(
        InputError, match=r"train.tuning.lr_candidates must be a number > 0 with lr_shape step, got 0.0"
    ):
        load(compose(tmp_path, "train.schedule.lr_shape=step", *candidates)).section("train", TrainSettings)


@pytest.mark.parametrize(("name", "value"), [("checkpoint_epochs", 0), ("workers", 0)])
def test_a_wrong_value_of_runtime_is_named(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"runtime.{name} must be at least 1, got {value}"):
        load(compose(tmp_path, f"runtime.{name}={value}")).section("runtime", RuntimeSettings)


def test_the_stage_settings_leaves_out_what_no_number_depends_on(tmp_path: Path) -> None:
    compose(tmp_path)
    run(tmp_path, "settings", "--out", "metrics/params.yaml")
    kept, whole = (yaml.safe_load((tmp_path / name).read_text()) for name in ("metrics/params.yaml", "params.yaml"))
    assert whole.pop("runtime")
    assert kept == whole
