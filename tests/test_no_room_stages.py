"""A disk without room, or too little memory, while a stage of dvc.yaml runs: one line, and nothing half-written.

Three small studies have every stage of dvc.yaml. Each command runs once. Then it runs again without its outputs, with a
limit on the size of a file that is just too small for one of them.
"""

import resource
import shlex
import shutil
import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from dvc.repo import Repo
from dvc.utils.hydra import compose_and_dump
from processes import Forked
from scripts import file_size_limit, run

ROOT = Path(__file__).parents[1]
MORE = 3 * 2**20  # bytes
IMPORTED = ("gapscope.report.page", "gapscope.report.tables", "gapscope.drawing.figure", "gapscope.claims.verdicts")
MEASURE_NETWORKS = {
    "train", "activations", "spectra", "controls", "sharpness", "curvature", "curvature_radius", "gradient_law",
    "landscape", "noise_scale",
}  # fmt: skip
STAGES = {path.stem for path in (ROOT / "stages").glob("*.py")}
COMMON = ["models=[lenet5_w0.5]", "datasets=[noise]", "+data.files.noise=noise.npz"]
STUDIES = {
    "quick": [
        *COMMON, "batch_sizes=[16,60]", "batch_size=16", "seeds=[0]", "controls.seeds=[0]", "epochs=1",
        "train.evaluation.history_images=50",
        "measures=[evaluation,spectra,near_rank,sharpness,curvature,curvature_radius,landscape,noise_scale,gradient_law]",
        "activations.probe_images=20", "sharpness.images=20", "sharpness.restarts=1",
        "sharpness.manifold_dimension=3", "sharpness.converged_starts=0", "curvature.images=20", "curvature.steps=3",
        "curvature.trace_probes=2", "curvature_radius.images=20", "landscape.small=16", "landscape.large=60",
        "landscape.images=20", "landscape.alphas=4", "landscape.points=3", "landscape.plane_points=3",
        "landscape.directions=2", "landscape.eigenvectors=2", "noise_scale.epochs=1", "noise_scale.batch_size=40",
        "noise_scale.images=90", "noise_scale.gradient_batch=30", "gradient_law.epochs=[0]",
        "gradient_law.gradient_batch=4", "gradient_law.discard_batch=100",
    ],
    "keskar_warmstart": [
        *COMMON, "seeds=[0]", "controls.seeds=[0]", "warmstart.small=50", "warmstart.large=100",
        "warmstart.small_epochs=1", "warmstart.large_epochs=1", "warmstart.starts=[0,1]", "sharpness.images=20",
        "sharpness.manifold_dimension=3", "sharpness.converged_starts=0", "claims.reference=keskar_warmstart",
    ],
    "random_matrices": [
        "random_matrices.repetitions=3", "random_matrices.shapes=[[30,20],[20,20]]",
        "random_matrices.spectrum_values=40", "perturbation.repetitions=2", "perturbation.units=30",
        "runtime.workers=1",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A command of dvc.yaml.

    Attributes:
        script: name of the stage's script.
        arguments: what follows it.
        outs: files and folders that it writes.
    """

    script: str
    arguments: tuple[str, ...]
    outs: tuple[Path, ...]

    def run(self, folder: Path) -> None:
        run(folder, self.script, *self.arguments)

    def remove_outs(self, folder: Path) -> None:
        """As DVC does before it runs a stage."""
        for out in self.outs:
            shutil.rmtree(folder / out) if (folder / out).is_dir() else (folder / out).unlink(missing_ok=True)

    def sizes(self, folder: Path) -> list[int]:
        """Return the sizes of the files that it has written."""
        files = [file for out in self.outs for file in ([*(folder / out).rglob("*")] or [folder / out])]
        return sorted({file.stat().st_size for file in files if file.is_file()} - {0})


def stages(folder: Path) -> list[Stage]:
    """Return the stages of a repository, each after those that it depends on."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning), Repo(folder) as repo:  # of DVC's own
        ordered = list(nx.dfs_postorder_nodes(repo.index.graph))
    found = []
    for stage in ordered:
        _, script, *arguments = shlex.split(stage.cmd)
        outs = tuple(Path(out.fs_path).relative_to(folder) for out in stage.outs)
        found.append(Stage(Path(script).stem, tuple(arguments), outs))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Stage]]:
    """A folder in which each stage's script has run, and the command, by the name of the script."""
    found: dict[str, tuple[Path, Stage]] = {}
    for study, overrides in STUDIES.items():
        folder = tmp_path_factory.mktemp(study)
        for name in ("dvc.yaml", "revisions.yaml"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "conf", folder / "conf")
        compose_and_dump(
            str(folder / "params.yaml"), str(ROOT / "conf"), None, "config", str(ROOT), [f"study={study}", *overrides]
        )
        draw = np.random.default_rng(0)
        x, y = draw.integers(0, 255, (150, 24, 24), np.uint8), np.arange(150) % 10
        np.savez(folder / "noise.npz", x_train=x[:120], y_train=y[:120], x_test=x[120:], y_test=y[120:])
        Repo.init(str(folder), no_scm=True).close()
        for stage in stages(folder):
            stage.run(folder)
            found.setdefault(stage.script, (folder, stage))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".dvc" not in path.relative_to(folder).parts
    }


def spread(sizes: list[int]) -> set[int]:
    """Return the smallest, the middle and the largest size: a stage of many figures would take minutes."""
    return {sizes[0], sizes[len(sizes) // 2], sizes[-1]}


@pytest.mark.integration
@pytest.mark.parametrize("script", sorted(STAGES))
def test_a_stage_on_a_full_disk_ends_in_one_line_and_leaves_nothing_half_written(
    finished: dict[str, tuple[Path, Stage]], tmp_path: Path, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done, stage = finished[script]
    whole = contents(done)
    for size in spread(stage.sizes(done)):
        folder = tmp_path / str(size)
        shutil.copytree(done, folder)
        stage.remove_outs(folder)
        before = contents(folder)
        with pytest.raises(SystemExit) as ended, file_size_limit(size - 1):
            stage.run(folder)
        said = capsys.readouterr().err
        assert ended.value.code == 2, said
        assert len(said.splitlines()) == 1, said
        assert "File too large" in said
        assert "make room" in said
        after = contents(folder)
        assert {name: after.get(name) for name in before} == before
        for name in after.keys() - before.keys():
            kept = name.startswith(("data/checkpoints/", "data/unfinished/"))  # finished parts, for the next start
            assert kept or len(after[name]) == len(whole[name])
        stage.run(folder)
        assert contents(folder).keys() == whole.keys()


def in_little_memory(folder: Path, script: str, arguments: tuple[str, ...]) -> None:
    """Run a stage that may take few MB more than what its imports take."""
    for name in IMPORTED:
        import_module(name)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    run(folder, script, *arguments)


@pytest.mark.integration
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says how much memory a process has")
@pytest.mark.parametrize("script", sorted(STAGES))
def test_a_stage_with_too_little_memory_ends_in_one_line_and_leaves_nothing_half_written(
    finished: dict[str, tuple[Path, Stage]], tmp_path: Path, script: str
) -> None:
    """Some stages need no more."""
    done, stage = finished[script]
    folder = tmp_path / "folder"
    shutil.copytree(done, folder)
    stage.remove_outs(folder)
    before = contents(folder)
    process = Forked(tmp_path / "said", in_little_memory, folder, script, stage.arguments)
    status, said = process.end(), process.output.read_text()
    if status == 0:
        assert script not in MEASURE_NETWORKS
        assert contents(folder).keys() == contents(done).keys()
    else:
        assert status == 2, said
        assert "memory" in said.splitlines()[-1]
        assert "is not a" not in said  # damaged file, which it is not
        kept = {name for name in contents(folder) if name.startswith("data/unfinished/")}  # the log of finished pieces
        assert {
            name: content for name, content in contents(folder).items() if name not in kept - before.keys()
        } == before
