"""Code proofs for a committed study: the code that its records name against the present code, on the study's own data.

For each commit that the records name: the cheapest cell that it made, trained by both codes for an epoch or two, and
measured with fewer images. Both must give the same bits. That separates the code from the processor, and serves for
records made on a GPU too. The last commit of 0.1.0 stands in for a commit in no history (`verified/lost.yaml`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gapscope.config import Params
from gapscope.data.sources import SUBSET
from gapscope.engine.cost import size_of
from gapscope.engine.proofs import code_proof
from gapscope.engine.proofs.cases import Case, is_declared
from gapscope.engine.proofs.legacy import made_by
from gapscope.engine.proofs.processor import processor
from gapscope.engine.proofs.versions import Version, Worker, in_history, present, unpacked
from gapscope.errors import InputError
from gapscope.git import git, git_bytes
from gapscope.names import SOURCE
from gapscope.records import proofs
from gapscope.records.cells import Cell, cells
from gapscope.records.closure import closure_hash
from gapscope.records.proofs import StudyProof

METRICS = Path("metrics")
LOST = Path("verified/lost.yaml")
LAST_OLD = "54c90e6"  # the last commit of 0.1.0: every committed result was up to date by its locks
DEAR_S, PART = 60.0, 1000  # where an epoch took longer, as recorded, so many training images are taken
BEFORE = {"spectra": ("activations",), "controls": ("activations",)}  # proved with it: its output is in no record
# what makes a cell cheap; a version takes those that it declares, in its own spelling
FEWER: dict[str, tuple[tuple[str, ...], ...]] = {
    "train": (("train.evaluation.history_images=500", "train.history_images=500"),),
    "sharpness": (("sharpness.images=100",),),
    "curvature": (("curvature.images=200",), ("curvature.steps=10",), ("curvature.trace_probes=2",)),
    "curvature_radius": (("curvature_radius.images=100",), ("curvature_radius.gradient_images=256",)),
    "noise_scale": (("noise_scale.images=256",), ("noise_scale.epochs=1",)),
    "gradient_law": (("gradient_law.images=512",), ("gradient_law.epochs=[0,1]",)),
    "landscape": (
        *(("landscape.images=200",), ("landscape.alphas=4",), ("landscape.points=3",), ("landscape.plane_points=3",)),
        ("landscape.eigenvectors=2",),
    ),
    "warmstart": (
        *(("warmstart.small_epochs=1",), ("warmstart.large_epochs=1",), ("warmstart.starts=[0,1]",)),
        ("train.evaluation.history_images=500", "train.history_images=500"),
        ("sharpness.images=100",),
    ),
    "random_matrices": (
        *(("random_matrices.repetitions=2",), ("random_matrices.shapes=[[1000,10],[1000,50],[1000,200]]",)),
        ("runtime.workers=1", "random_matrices.workers=1"),
    ),
    "perturbation": (("perturbation.repetitions=5",),),
}
# settings that a run of one or two epochs cannot have as they are: leaf of a param -> spellings of the override
SHORTER: dict[str, tuple[str, ...]] = {
    "batch_schedule": ("train.schedule.batch_schedule={}", "train.batch_schedule={}"),
    "updates": ("train.schedule.updates={}", "train.updates={}"),
    "warmup_epochs": ("train.schedule.warmup_epochs={}", "train.warmup_epochs={}"),
    "lr_candidates": ("train.tuning.lr_candidates={}", "train.lr_candidates={}"),
    "lr_sweep_epochs": ("train.tuning.lr_sweep_epochs={}", "train.lr_sweep_epochs={}"),
}


@dataclass(frozen=True)
class Record:
    """A committed record, by the commit that made it."""

    stage: str
    name: str  # of its file, without suffix
    commit: str  # "" where it does not say
    wall_s: float


@dataclass(frozen=True)
class Target:
    """What one commit made in a study."""

    commit: str
    named: str  # the commit that the records name
    stages: tuple[str, ...]
    cell: str  # to compute again
    overrides: tuple[tuple[str, ...], ...]
    conditions: str


def records(study: str, metrics: Path = METRICS) -> list[Record]:
    """Return a study's records by stage and commit; of a record in several files the one that says how it was made."""
    found: dict[tuple[str, str], Record] = {}
    for path in sorted((metrics / study).glob("*/*")):
        name = path.name.removesuffix(path.suffix)
        made = made_by(path) if path.suffix in (".json", ".jsonl", ".csv") else {}
        record = Record(path.parent.name, name, commit_of(made), float(made.get("wall_s") or 0))
        if made or (record.stage, record.name) not in found:
            found[record.stage, record.name] = record
    return list(found.values())


def commit_of(made: Mapping[str, Any]) -> str:
    """Return the commit of a record's provenance, without saying whether files were edited; "" where there is none."""
    return str(made.get("commit") or "").removesuffix("-dirty")


def lost(path: Path = LOST) -> dict[str, str]:
    """Return the commits that records name and no history has -> what is known of them."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def targets(study: str, params: Params, wanted: Sequence[str] = ()) -> list[Target]:
    """Return what to prove of a study: for each commit that its records name, a cell and the stages that it made.

    Args:
        study: its name.
        params: as composed.
        wanted: names of stages; empty: all that have records.

    Raises:
        InputError: the study has no records.
    """
    found = records(study)
    if not found:
        raise InputError(f"{METRICS / study} has no records: there is nothing to prove")
    main = max((record.commit for record in found if record.stage == found_main(found)), default="")
    by_commit: dict[str, list[Record]] = {}
    for record in found:
        if not wanted or record.stage in wanted:
            by_commit.setdefault(record.commit or put_in_git(study, record) or main, []).append(record)
    return [_target(commit, made, params) for commit, made in by_commit.items()]


def put_in_git(study: str, record: Record) -> str:
    """Return the commit in which version 0.1 put a record's numbers into git; "" if it is of no such time.

    Of a record that names no commit it is the nearest code that is known: its params were those of that commit.
    """
    return git("log", "-1", "--format=%h", LAST_OLD, "--", f"{METRICS / study / record.stage / record.name}.*").strip()


def found_main(found: Sequence[Record]) -> str:
    """Return the stage that the others of a study follow."""
    there = {record.stage for record in found}
    return next(stage for stage in ("train", "warmstart", "random_matrices", *sorted(there)) if stage in there)


def _target(named: str, made: Sequence[Record], params: Params) -> Target:
    commit = named if named and in_history(named) else LAST_OLD
    stages = list(dict.fromkeys(record.stage for record in made))
    if "random_matrices" in stages:
        stages.append("perturbation")
    for stage in list(stages):
        stages += [other for other in BEFORE.get(stage, ()) if other not in stages]
    cell, overrides, there = "", list[str](), None
    if "evaluation" in params.groups["measures"]:
        chosen = cheapest(made, params)
        cell = chosen.name
        if "landscape" not in params.groups["measures"]:  # that one names two of the batch sizes
            overrides += [f"batch_sizes=[{chosen.batch_size}]", f"batch_size={chosen.batch_size}"]
        overrides += [f"seeds=[{chosen.seed}]", f"controls.seeds=[{chosen.seed}]"]
        length, conditions = shortened(params, of_few_images=chosen.dataset in ("digits", "noisy_digits"))
        size = size_of(chosen.dataset, params)
        there = size.train_images if size else None
        if epoch_seconds(made, chosen, params) > DEAR_S and SUBSET.fullmatch(chosen.dataset) is None:
            overrides.append(f"datasets=[{chosen.dataset}_n{PART}]")
            conditions += f", {PART} training images"
            there = PART
    else:
        length = [(f"seeds=[{params.seeds[0]}]",)] if params.seeds else []
        cell, conditions = made[0].name, "fewer epochs, images, matrices"
    fewer = [item for stage in ["train", *stages] for item in FEWER.get(stage, ()) if not asks_for_more(item[0], there)]
    every = [*((item,) for item in overrides), *length, *dict.fromkeys(fewer)]
    return Target(commit, named, tuple(stages), cell, tuple(every), conditions)


def asks_for_more(override: str, there: int | None) -> bool:
    """Return whether an override asks for more images than there are for training; there is None if not known."""
    name, _, value = override.partition("=")
    return name.endswith("images") and there is not None and int(value) > there


def cheapest(made: Sequence[Record], params: Params) -> Cell:
    """Return the cell that costs least to compute again: little time in training, few images to measure.

    A record of a stage with one record per seed stands for all batch sizes of the seed.
    """
    todo, per_image_s = cells(params), 0.005
    there = {record.name for record in made}
    seeds = {f"{cell.model}-{cell.dataset}-s{cell.seed}": cell.seed for cell in todo}
    own = [cell for cell in todo if cell.name in there or seeds_of(cell) in there & seeds.keys()]
    if not own:
        raise InputError(f"no record of {params.study} is of a cell that conf/study/{params.study}.yaml has")
    return min(own, key=lambda cell: epoch_seconds(made, cell, params) + per_image_s * cell.batch_size)


def epoch_seconds(made: Sequence[Record], cell: Cell, params: Params) -> float:
    """Return how long an epoch of a cell took, as recorded; 0 where that is not among the records."""
    seconds = max(
        (record.wall_s for record in made if (record.stage, record.name) == ("train", cell.name)), default=0.0
    )
    return seconds / max(params.epochs, 1)


def seeds_of(cell: Cell) -> str:
    """Return the name of the record of a cell's seed."""
    return f"{cell.model}-{cell.dataset}-s{cell.seed}"


def shortened(params: Params, *, of_few_images: bool) -> tuple[list[tuple[str, ...]], str]:
    """Return the overrides that make a run short, and what they come to in words."""
    settings, epochs = params.groups, 2 if of_few_images else 1
    found = list[tuple[str, ...]]()

    def override(leaf_name: str, value: object) -> None:
        found.append(tuple(spelling.format(value) for spelling in SHORTER[leaf_name]))

    if schedule := leaf(settings, "batch_schedule"):
        epochs = 2
        override("batch_schedule", f"[{', '.join(_within_two_epochs(schedule))}]")
    if leaf(settings, "warmup_epochs"):
        override("warmup_epochs", 0.5)
    if candidates := leaf(settings, "lr_candidates"):
        override("lr_candidates", f"[{', '.join(map(str, candidates[:2]))}]")
        override("lr_sweep_epochs", 1)
    length = f"{epochs} epoch{'s' if epochs > 1 else ''}"
    if leaf(settings, "updates"):
        override("updates", 100)
        length = "100 updates"
    return [(f"epochs={epochs}",), *found], length


def _within_two_epochs(schedule: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the first changes of a batch schedule as text: one at epoch 1, if there is any, and the next at epoch 2."""
    first = 1 if schedule[0]["epoch"] == 1 else 2
    for epoch, switch in zip(range(first, 3), schedule, strict=False):
        values = {key: "null" if value is None else value for key, value in {**switch, "epoch": epoch}.items()}
        yield "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"


def leaf(groups: Mapping[str, Any], name: str) -> Any:
    """Return the first param of this name at any depth; None where there is none."""
    for key, value in groups.items():
        if key == name:
            return value
        if isinstance(value, Mapping) and (inner := leaf(value, name)) is not None:
            return inner
    return None


def prove(target: Target, params: Params, using: Worker, folder: Path, say: Callable[[str], None]) -> list[StudyProof]:
    """Run a target's commit and the present code on its cell, and return what was found for each stage.

    Raises:
        InputError: a version cannot run it, or a data set of one's own is not there.
    """
    old, new = unpacked(target.commit, folder / "of_commit"), present(folder / "of_present")
    borrowed = add_study(old, params.study)
    own = [place for place in params.groups["data"]["files"].values() if not SOURCE.fullmatch(place)]  # not a function
    files = {place: Path(place) for place in own}
    if absent := [str(path) for path in files.values() if not path.exists()]:
        raise InputError(f"{', '.join(absent)} is missing; make it first (for examples: python examples/make_data.py)")
    overrides = tuple(item for item in target.overrides if all(is_declared(item, known(v)) for v in (old, new)))
    case = Case(target.cell or params.study, params.study, overrides)
    stages = [stage for stage in target.stages if all(code_proof.has_stage(v, stage) for v in (old, new))]
    compared = code_proof.prove_case(case, stages, (old, new), using, folder, say, files=files)
    instead = "" if target.commit == target.named else f" (the records name {target.named or 'none'}, in no history)"
    return [
        StudyProof(
            cell=target.cell,
            stage=one.stage,
            revision=proofs.stage_revision(one.stage, new.folder),
            code=closure_hash(one.stage, new.folder),
            kind=proofs.CODE_KIND,
            against=target.commit + instead,
            processor=processor(),
            conditions=target.conditions + borrowed,
            first_rounding="",
            end_rounding="",
            end_spread="",
            largest_difference=f"{one.difference.largest:.3g}",
            verdict=one.verdict,
            date=code_proof.today(),
        )
        for one in compared
    ]


def known(version: Version) -> set[str]:
    """Return what a version declares, and what Hydra itself takes."""
    return version.declared | {"study"}


def add_study(version: Version, study: str) -> str:
    """Give a version the study's file as it was first committed, where it has none yet; say so in words.

    Some records name the commit before the one that brought their study.
    """
    place = f"conf/study/{study}.yaml"
    if (version.folder / place).exists():
        return ""
    first = git("log", "--diff-filter=A", "--format=%h", "--", place).split()
    if not first:
        raise InputError(f"{place} is in no commit")
    (version.folder / place).write_bytes(git_bytes("show", f"{first[-1]}:{place}"))
    return f", study file of {first[-1]}"


def commits_named(metrics: Path = METRICS) -> dict[str, list[str]]:
    """Return the commits that committed records name -> the records."""
    found: dict[str, list[str]] = {}
    for folder in sorted(path for path in metrics.iterdir() if path.is_dir()):
        for record in records(folder.name, metrics):
            if record.commit:
                found.setdefault(record.commit, []).append(f"{folder.name}/{record.stage}/{record.name}")
    return found


def check_history(metrics: Path = METRICS, known: Path = LOST) -> list[str]:
    """Return what is wrong with the commits that records name, in lines; nothing where all are in the history.

    Raises:
        InputError: the clone is shallow, so that it cannot be told.
    """
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise InputError("the clone is shallow: git fetch --unshallow, so that commits can be looked up")
    named, stated = commits_named(metrics), lost(known)
    said = [
        f"{len(files)} records name commit {commit}, which is in no history, such as {files[0]}"
        for commit, files in named.items()
        if not in_history(commit) and commit not in stated
    ]
    said += [f"{known}: no record names {commit}: take it out" for commit in stated if commit not in named]
    return said
