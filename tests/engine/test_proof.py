"""Proofs of which code made a result: comparisons that a single bit fails, classes with bounds, and the tripwire."""

import json
import math
import shutil
import subprocess
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from gapscope.cli.compose import composed
from gapscope.engine.cost import size_of
from gapscope.engine.plan import check_measures
from gapscope.engine.proofs import cases, code_proof, migrations, recorded, result_proof, tripwire
from gapscope.engine.proofs.numbers import absent, compare, read_numbers
from gapscope.errors import InputError
from gapscope.git import git
from gapscope.records import closure, proofs
from gapscope.records.proofs import CodeProof, SameCode, StudyProof

ROOT = Path(__file__).parents[2]
UNIT = 2.0**-24


# --- comparing outputs ----------------------------------------------------------------------------------------------


def weights(folder: Path, change: float = 0.0) -> list[str]:
    """A file of weights, one of which is moved."""
    draw = np.random.default_rng(0)
    tensors = {"a": draw.normal(size=(4, 3)).astype(np.float32), "b": draw.normal(size=5).astype(np.float32)}
    tensors["b"][2] += np.float32(change)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "w.safetensors")
    return ["w.safetensors"]


def test_equal_weights_are_the_same_bits(tmp_path: Path) -> None:
    old, new = weights(tmp_path / "old"), weights(tmp_path / "new")
    verdict, difference = code_proof.compare_outputs("train", (tmp_path / "old", [old]), (tmp_path / "new", [new]))
    assert verdict == proofs.SAME_BITS
    assert difference.numbers == 17


def test_one_unit_in_the_last_place_of_one_weight_is_seen(tmp_path: Path) -> None:
    old, new = weights(tmp_path / "old"), weights(tmp_path / "new")
    tensors = {name.rpartition("/")[2]: value for name, value in read_numbers(new, tmp_path / "new").items()}
    moved = tensors["b"]
    assert isinstance(moved, np.ndarray)
    moved = moved.copy()
    moved[3] = np.nextafter(moved[3], np.float32(9))
    save_file({"a": np.asarray(tensors["a"]), "b": moved}, tmp_path / "new" / "w.safetensors")
    verdict, difference = code_proof.compare_outputs("train", (tmp_path / "old", [old]), (tmp_path / "new", [new]))
    assert verdict == proofs.DIFFERENT
    assert difference.differing == 1
    assert difference.where.endswith("w.safetensors/b")
    assert 0 < difference.largest < 2.0**-22


@pytest.mark.parametrize(("old", "new"), [(0.0, -0.0), (1.0, math.nan)])
def test_arrays_are_compared_by_bits(tmp_path: Path, old: float, new: float) -> None:
    for name, value in (("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", np.array([value, 2.0]))
    found = compare(read_numbers(["a.npy"], tmp_path / "old"), read_numbers(["a.npy"], tmp_path / "new"))
    assert found.differing == 1


def test_arrays_with_the_same_nan_are_equal(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([math.nan, 2.0]))
    numbers = read_numbers(["a.npy"], tmp_path)
    assert compare(numbers, read_numbers(["a.npy"], tmp_path)).same_bits


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_how_and_when_a_record_was_made_is_no_number(tmp_path: Path) -> None:
    for name, seconds, commit in (("old", 1.0, "a"), ("new", 2.0, "b")):
        record = {
            "schema": 1,
            "loss": 0.5,
            "wall_s": seconds,
            "provenance": {"commit": commit},
            "settings": {"x": seconds},
        }
        write(tmp_path / name, "r.json", json.dumps(record))
        write(tmp_path / name, "r.csv", f"epoch,loss,wall_s,commit\n1,0.5,{seconds},{commit}\n")
        write(tmp_path / name, "provenance/s.json", json.dumps({"commit": commit}))
    outs = ["r.json", "r.csv", "provenance/s.json"]
    found = compare(read_numbers(outs, tmp_path / "old"), read_numbers(outs, tmp_path / "new"))
    assert found.same_bits
    assert found.numbers == 3
    assert not found.more


def test_a_missing_number_is_a_difference_and_a_new_one_is_not(tmp_path: Path) -> None:
    one, both = {"a": 1.0}, {"a": 1.0, "b": 2.0}
    assert compare(one, both).same_bits
    assert not compare(both, one).same_bits
    assert compare(both, one).missing == ["b"]
    assert not compare({}, {}).same_bits  # nothing was compared


LONG = "model,quantity,split,value\nlenet5,error_pct,test,1.5\nlenet5,error_pct,train,0.25\n"


def test_rows_of_a_long_table_have_names_and_no_order(tmp_path: Path) -> None:
    write(tmp_path / "old", "runs.csv", LONG)
    header, *rows = LONG.splitlines()
    write(tmp_path / "new", "runs.csv", "\n".join([header, *reversed(rows)]) + "\n")
    found = compare(read_numbers(["runs.csv"], tmp_path / "old"), read_numbers(["runs.csv"], tmp_path / "new"))
    assert found.same_bits


def test_another_form_holds_the_same_values_or_it_is_different(tmp_path: Path) -> None:
    write(tmp_path / "old", "runs.csv", "model,test_error_pct,train_error_pct,empty\nlenet5,1.5,0.25,\n")
    write(tmp_path / "new", "runs.csv", LONG)
    folders = (tmp_path / "old", [["runs.csv"]]), (tmp_path / "new", [["runs.csv"]])
    assert code_proof.compare_outputs("tables", *folders)[0] == proofs.DIFFERENT  # the model's name is no value there
    write(tmp_path / "old", "runs.csv", "test_error_pct,train_error_pct,empty\n1.5,0.25,\n")
    assert code_proof.compare_outputs("tables", *folders)[0] == proofs.SAME_VALUES
    write(tmp_path / "new", "runs.csv", LONG.replace("0.25", "0.2500000001"))
    verdict, difference = code_proof.compare_outputs("tables", *folders)
    assert verdict == proofs.DIFFERENT
    assert difference.missing == ["runs.csv/0/train_error_pct"]


def test_a_value_that_is_there_once_does_not_serve_twice() -> None:
    assert absent({"a": 1.5, "b": 1.5}, {"x": 1.5}) == ["b"]


class Step:
    """What a migration does to the records of one cell."""

    @staticmethod
    def convert(_stage: str, found: dict[str, bytes]) -> dict[str, bytes]:
        _, values = found["metrics/s/runs.csv"].decode().splitlines()
        test, train = values.split(",")
        return {
            "metrics/s/runs.csv": f"quantity,split,value\nerror_pct,test,{test}\nerror_pct,train,{train}\n".encode()
        }


def test_a_migration_brings_old_files_to_the_new_form(tmp_path: Path) -> None:
    script = types.SimpleNamespace(
        steps={"tables": [Step]}, path=lambda place: place.replace("metrics/s/", "metrics/new/")
    )
    write(tmp_path / "old", "metrics/s/runs.csv", "test_error_pct,train_error_pct\n1.5,0.25\n")
    old, new = (tmp_path / "old", [["metrics/s/runs.csv"]]), (tmp_path / "new", [["metrics/new/runs.csv"]])

    def verdict(test: float, train: float) -> str:
        text = f"quantity,split,value\nerror_pct,test,{test}\nerror_pct,train,{train}\n"
        write(tmp_path / "new", "metrics/new/runs.csv", text)
        return code_proof.compare_outputs("tables", old, new, migrations.Migration((script,)))[0]

    assert verdict(1.5, 0.25) == proofs.SAME_BITS
    assert verdict(0.25, 1.5) == proofs.DIFFERENT  # swapped
    assert verdict(1.5, 0.2500000001) == proofs.DIFFERENT


def test_the_present_code_gets_the_old_weights_where_they_differ(tmp_path: Path) -> None:
    outs = weights(tmp_path / "old")
    weights(tmp_path / "new", change=0.1)
    code_proof.hand_over(tmp_path / "old", tmp_path / "new", outs)
    assert compare(read_numbers(outs, tmp_path / "old"), read_numbers(outs, tmp_path / "new")).same_bits


# --- cases ----------------------------------------------------------------------------------------------------------


def test_every_stage_with_numbers_is_in_a_case() -> None:
    stages = {stage for case in cases.read_cases() for stage in case.stages}
    assert stages == set(closure.stages(ROOT)) - code_proof.NO_NUMBERS.keys()


def test_a_version_takes_the_spelling_that_it_declares() -> None:
    spellings = ("train.optimizer.name=adam", "train.optimizer=adam")
    assert cases.spelled(spellings, {"train.optimizer.name", "train.optimizer"}) == [spellings[0]]
    assert cases.spelled(spellings, {"train.optimizer"}) == [spellings[1]]
    assert cases.spelled(("runtime? a=new", "a=old"), {"a", "runtime"}) == ["a=new"]
    assert cases.spelled(("runtime? a=new", "a=old"), {"a"}) == ["a=old"]
    assert cases.spelled(("a=1 & b=2", "c=3"), {"a", "b", "c"}) == ["a=1", "b=2"]
    assert cases.spelled(("a=1 & b=2", "c=3"), {"a", "c"}) == ["c=3"]
    with pytest.raises(InputError, match="no spelling"):
        cases.spelled(spellings, {"train"})


def test_an_unknown_case_is_answered_with_a_known_one() -> None:
    with pytest.raises(InputError, match="lenet5"):
        cases.read_cases(["lenet"])


# --- the tripwire ---------------------------------------------------------------------------------------------------


def code_row(stage: str, case: str, code: str, verdict: str = proofs.SAME_BITS, revision: int = 1) -> CodeProof:
    return CodeProof(stage, case, revision, code, "54c90e6", "0" * 16, verdict, 10, 0.0, "a processor", "2026-12-01")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The package and two of its stages, with all their cases proved."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "stages").mkdir()
    for stage in ("spectra", "near_rank"):
        shutil.copy(ROOT / "stages" / f"{stage}.py", tmp_path / "stages")
    rows = [
        code_row(stage, case.name, closure.closure_hash(stage, tmp_path))
        for case in cases.read_cases()
        for stage in case.stages
        if stage in ("spectra", "near_rank")
    ]
    proofs.write_code_proofs(rows, tmp_path / proofs.CODE)
    return tmp_path


def edit(file: Path, was: str, becomes: str) -> None:
    text = file.read_text()
    assert was in text
    file.write_text(text.replace(was, becomes, 1))


def tripped(project: Path) -> set[str]:
    return set(tripwire.unproved(cases.read_cases(), project))


SPECTRUM = "src/gapscope/numerics/hosvd/gram.py"


def test_proved_code_trips_no_wire(project: Path) -> None:
    assert tripped(project) == set()
    assert tripwire.message({}) == ""


def test_a_docstring_trips_no_wire(project: Path) -> None:
    edit(project / SPECTRUM, '"""', '"""In other words. ')
    edit(project / "stages/spectra.py", '"""Stage spectra', '"""The stage spectra')
    assert tripped(project) == set()


def test_a_changed_formula_trips_the_wire_of_the_stages_that_run_it(project: Path) -> None:
    (project / SPECTRUM).write_text((project / SPECTRUM).read_text() + "\n\nPLANTED = 1 + 1\n")
    assert tripped(project) == {"spectra", "near_rank"}  # counts and spectra share the form of a spectrum
    said = tripwire.message(tripwire.unproved(cases.read_cases(), project))
    assert "revisions.yaml" in said
    assert "gapscope verify --against COMMIT --stage near_rank --stage spectra" in said


def test_one_case_that_differs_or_is_missing_trips_the_wire(project: Path) -> None:
    rows = proofs.read_rows(project / proofs.CODE, CodeProof)
    one = next(row for row in rows if row.stage == "spectra")
    all_cases = cases.read_cases()
    assert tripwire.unproved(all_cases, project, rows) == {}
    others = [row for row in rows if row != one]
    assert tripwire.unproved(all_cases, project, others) == {"spectra": [one.case]}
    different = code_row("spectra", one.case, one.code, proofs.DIFFERENT)
    assert tripwire.unproved(all_cases, project, [*others, different]) == {"spectra": [one.case]}


def test_a_result_proof_does_not_satisfy_the_wire(project: Path) -> None:
    rows = proofs.read_rows(project / proofs.CODE, CodeProof)
    claimed = [code_row(r.stage, r.case, r.code, proofs.WITHIN_SPREAD) for r in rows]
    claimed_rounding = [code_row(r.stage, r.case, r.code, proofs.ROUNDING) for r in rows]
    for made in (claimed, claimed_rounding):
        assert set(tripwire.unproved(cases.read_cases(), project, made)) == {"spectra", "near_rank"}


def test_a_raised_revision_needs_its_own_row(project: Path) -> None:
    revisions = {stage: {"revision": 1, "date": "2026-12-01", "changed": ""} for stage in ("spectra", "near_rank")}
    (project / "revisions.yaml").write_text(yaml.safe_dump(revisions))
    assert tripped(project) == set()
    revisions["spectra"]["revision"] = 2
    (project / "revisions.yaml").write_text(yaml.safe_dump(revisions))
    assert tripped(project) == {"spectra"}
    code = closure.closure_hash("spectra", project)
    proofs.write_code_proofs([code_row("spectra", "", code, proofs.NEW_REVISION, 2)], project / proofs.CODE)
    assert tripped(project) == set()
    edit(project / "stages/spectra.py", "folder of the activations stage", "folder")
    assert tripped(project) == {"spectra"}  # other code of the same revision


def test_a_commit_whose_code_was_never_proved_proves_nothing() -> None:
    rows = [code_row("train", "lenet5", "1" * 16)]
    code_proof.check_chain("train", "0" * 16, rows, 1, "54c90e6")
    code_proof.check_chain("train", "1" * 16, rows, 1, "abc")
    with pytest.raises(InputError, match="never proved"):
        code_proof.check_chain("train", "2" * 16, rows, 1, "abc")


def test_a_new_row_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "code.csv"
    proofs.write_code_proofs([code_row("train", "a", "1"), code_row("train", "b", "1")], path)
    proofs.write_code_proofs([code_row("train", "a", "2")], path)
    assert [(row.case, row.code) for row in proofs.read_rows(path, CodeProof)] == [("a", "2"), ("b", "1")]


def test_code_is_the_same_only_if_all_cases_gave_the_same_numbers() -> None:
    rows = [code_row("train", case, "1" * 16) for case in ("a", "b")]
    wanted = [SameCode("train", "1" * 16, "0" * 16, 2, "2026-12-01")]
    assert proofs.same_code(rows, {"train": ["a", "b"]}) == wanted
    assert (
        proofs.same_code([*rows, code_row("spectra", "a", "3" * 16)], {"train": ["a", "b"], "spectra": ["a", "b"]})
        == wanted
    )
    assert proofs.same_code(rows, {"train": ["a", "b", "c"]}) == []
    assert proofs.same_code(rows, {}) == []
    for verdict in (proofs.DIFFERENT, proofs.NEW_REVISION, proofs.NEW_STAGE):
        assert proofs.same_code([rows[0], code_row("train", "b", "1" * 16, verdict)], {"train": ["a", "b"]}) == []
    other = replace(rows[1], against_code="2" * 16)  # the two cases were not proved against the same code
    assert proofs.same_code([rows[0], other], {"train": ["a", "b"]}) == []


# --- classes of recomputed cells ------------------------------------------------------------------------------------

RECORD = {10: {"updates": 10.0, "test_cross_entropy": 0.5}, 20: {"updates": 20.0, "test_cross_entropy": 0.25}}
END = {"test_cross_entropy": 0.25, "test_error_pct": 1.0}


def moved(units: tuple[float, float]) -> dict[int, dict[str, float]]:
    """The record, moved by so many units of rounding per update."""
    return {
        updates: row | {"test_cross_entropy": row["test_cross_entropy"] * (1 + count * UNIT * updates)}
        for count, (updates, row) in zip(units, RECORD.items(), strict=True)
    }


def test_equal_rows_are_the_same_bits() -> None:
    found = result_proof.classify(RECORD, RECORD, unit=UNIT, ends=(END, END))
    assert (found.kind, found.first, found.largest) == (proofs.SAME_BITS, 0.0, 0.0)


@pytest.mark.parametrize(
    ("units", "kind"),
    [
        ((0.0, 1.0), proofs.ROUNDING),
        ((1.0, 0.99 * result_proof.ROUNDINGS), proofs.ROUNDING),
        ((0.0, 1.01 * result_proof.ROUNDINGS), proofs.DIFFERENT),
        ((1.01 * result_proof.ROUNDINGS, 0.0), proofs.DIFFERENT),
    ],
)
def test_rounding_is_bounded_at_every_epoch(units: tuple[float, float], kind: str) -> None:
    found = result_proof.classify(RECORD, moved(units), unit=UNIT)
    assert found.kind == kind
    assert found.first == pytest.approx(units[0], rel=0.05)
    assert found.end == pytest.approx(units[1], rel=0.05)


@pytest.mark.parametrize(
    ("deviations", "kind"),
    [(0.99 * result_proof.SPREADS, proofs.WITHIN_SPREAD), (1.01 * result_proof.SPREADS, proofs.DIFFERENT)],
)
def test_seed_spread_is_bounded(deviations: float, kind: str) -> None:
    end = END | {"test_cross_entropy": END["test_cross_entropy"] + deviations * 0.01}
    found = result_proof.classify(
        RECORD, moved((1e4, 1e4)), unit=UNIT, ends=(END, end), deviations={"test_cross_entropy": 0.01}
    )
    assert found.kind == kind
    assert found.spread == pytest.approx(deviations)


def test_without_a_second_seed_nothing_is_within_seed_spread() -> None:
    end = END | {"test_cross_entropy": 0.26}
    found = result_proof.classify(RECORD, moved((1e4, 1e4)), unit=UNIT, ends=(END, end), deviations={})
    assert (found.kind, found.spread) == (proofs.DIFFERENT, None)


def test_a_run_that_was_not_finished_is_never_within_seed_spread() -> None:
    part = {10: moved((1e4, 0.0))[10]}
    assert (
        result_proof.classify(RECORD, part, unit=UNIT, deviations={"test_cross_entropy": 9.0}).kind == proofs.DIFFERENT
    )


def test_a_missing_quantity_is_an_error() -> None:
    with pytest.raises(InputError, match="test_cross_entropy"):
        result_proof.classify(RECORD, {10: {"updates": 10.0}}, unit=UNIT)


@pytest.mark.parametrize(
    "text",
    [
        "epoch,updates,test_cross_entropy\n1,10,0.5\n2,20,0.25\n",
        "quantity,split,epoch,value\nupdates,,1,10\ncross_entropy,test,1,0.5\nupdates,,2,20\ncross_entropy,test,2,0.25\n",
    ],
)
def test_a_history_is_read_from_a_wide_and_from_a_long_table(tmp_path: Path, text: str) -> None:
    write(tmp_path, "metrics/s/train/c.csv", text)
    found = result_proof.history(read_numbers(["metrics/s/train/c.csv"], tmp_path))
    assert set(found) == {10, 20}
    assert [next(v for k, v in row.items() if "cross" in k) for row in found.values()] == [0.5, 0.25]


# --- what the records name ------------------------------------------------------------------------------------------


def test_a_commit_in_no_history_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = tmp_path / "metrics"
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, cwd=ROOT)
    for name, commit in (("a", head.stdout.strip() + "-dirty"), ("b", "0000000"), ("c", None)):
        write(metrics, f"study/train/{name}.json", json.dumps({"provenance": {"commit": commit, "wall_s": 1.0}}))
    monkeypatch.chdir(ROOT)
    said = recorded.check_history(metrics, tmp_path / "lost.yaml")
    assert len(said) == 1
    assert "0000000" in said[0]
    write(tmp_path, "lost.yaml", '"0000000": lost\n')
    assert recorded.check_history(metrics, tmp_path / "lost.yaml") == []
    write(tmp_path, "lost.yaml", '"0000000": lost\n"1111111": never named\n')
    assert "1111111" in recorded.check_history(metrics, tmp_path / "lost.yaml")[0]


def test_provenance_beside_a_record_is_taken_before_that_within(tmp_path: Path) -> None:
    write(tmp_path, "metrics/s/train/c.json", json.dumps({"provenance": {"commit": "old"}}))
    assert recorded.made_by(tmp_path / "metrics/s/train/c.json")["commit"] == "old"
    write(tmp_path, "provenance/s/train/c.json", json.dumps({"commit": "new"}))
    assert recorded.made_by(tmp_path / "metrics/s/train/c.json")["commit"] == "new"


@pytest.mark.parametrize(
    ("schedule", "short"),
    [
        ([(31, 128, "null")], [(2, 128, "null")]),
        ([(1, 512, 0.005), (5, "null", 0.05), (9, 64, "null")], [(1, 512, 0.005), (2, "null", 0.05)]),
    ],
)
def test_a_shortened_run_changes_its_batch_size_within_two_epochs(schedule: list, short: list) -> None:
    def text(changes: list) -> str:
        return ", ".join(f"{{epoch: {epoch}, batch_size: {size}, lr: {lr}}}" for epoch, size, lr in changes)

    _, long = composed(["study=quick", f"train.schedule.batch_schedule=[{text(schedule)}]", "epochs=40"])
    params = types.SimpleNamespace(groups=yaml.safe_load(long))
    found, length = recorded.shortened(params, of_few_images=False)
    assert length == "2 epochs"
    assert f"train.schedule.batch_schedule=[{text(short)}]" in [spelling for choice in found for spelling in choice]


def test_every_commit_that_a_record_names_is_in_the_history_or_known_to_be_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    shallow = subprocess.run(
        ["git", "rev-parse", "--is-shallow-repository"], capture_output=True, text=True, check=True
    )
    if shallow.stdout.strip() == "true":
        pytest.skip("the history is not here")
    assert recorded.check_history() == []


@pytest.mark.integration
def test_the_present_code_of_every_stage_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert tripwire.message(tripwire.unproved(cases.read_cases())) == ""


# --- standing -------------------------------------------------------------------------------------------------------


def study_row(stage: str, code: str, verdict: str = proofs.SAME_BITS, kind: str = proofs.CODE_KIND) -> StudyProof:
    fields = {"cell": "lenet5-digits-b32-s0", "conditions": "2 epochs", "processor": "a CPU", "date": "2026-12-01"}
    empty = dict.fromkeys(("first_rounding", "end_rounding", "end_spread", "largest_difference"), "")
    return StudyProof(
        stage=stage, revision=1, code=code, kind=kind, against="34f9214", verdict=verdict, **fields, **empty
    )


def test_standing_says_what_is_proved_and_what_is_not(project: Path) -> None:
    assert len(proofs.standing("quick", project)) == 2
    code = closure.closure_hash("spectra", project)
    table = project / proofs.VERIFIED / "quick.csv"
    key = ("kind", "stage", "cell", "against")
    proofs.write_rows(table, [study_row("spectra", code)], StudyProof, key=key)
    assert "34f9214" in proofs.standing("quick", project)[0]
    assert not any("changed" in line for line in proofs.standing("quick", project))
    edit(project / "src/gapscope/measures/spectra.py", "set_threads(settings.threads)", "set_threads(1)")
    assert any("changed" in line and "spectra" in line for line in proofs.standing("quick", project))
    # tied to that row's code by two proofs: only both together do it
    present, ties = closure.closure_hash("spectra", project), project / proofs.SAME_CODE
    proofs.write_same_code([SameCode("spectra", present, "between", 1, "")], ties)
    proofs.write_same_code([SameCode("train", "between", code, 1, "")], ties)
    assert any("changed" in line for line in proofs.standing("quick", project))
    proofs.write_same_code([SameCode("spectra", "between", code, 1, "")], ties)
    assert not any("changed" in line for line in proofs.standing("quick", project))
    proofs.write_rows(table, [study_row("spectra", code, proofs.DIFFERENT)], StudyProof, key=key)
    assert "not proved" in proofs.standing("quick", project)[0]
    result = study_row("train", code, proofs.WITHIN_SPREAD, proofs.RESULT_KIND)
    proofs.write_rows(table, [result], StudyProof, key=key)
    assert proofs.WITHIN_SPREAD in proofs.standing("quick", project)[-1]


@pytest.mark.parametrize(
    "study", sorted(path.name for path in (ROOT / "metrics").iterdir() if (path / "params.yaml").exists())
)
def test_every_committed_study_has_something_to_prove(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study_file = ROOT / "conf/study" / f"{study}.yaml"
    params = composed([f"study={study}"], study_file)[0]
    for target in recorded.targets(study, params):
        assert target.stages
        assert target.cell
        sizes = [size_of(dataset, params) for dataset in params.datasets]
        if 0 < (fewest := min((size.train_images for size in sizes if size), default=0)) < 1000:
            overrides = [spellings[0] for spellings in target.overrides]
            check_measures(composed([f"study={study}", *overrides], study_file)[0], fewest)


def test_a_record_without_a_commit_is_proved_against_the_one_that_put_it_into_git(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its probe has more images than the code had that trained the network."""
    monkeypatch.chdir(ROOT)
    place = recorded.put_in_git("keskar_table3", recorded.Record("spectra", "f1-mnist-b256-s0", "", 0))
    assert "probe_images: 1024" in git("show", f"{place}:conf/study/keskar_table3.yaml")
    assert recorded.put_in_git("gao_law", recorded.Record("train", "lenet5-fashion_mnist-b128-s3", "", 0)) == ""


def test_a_stage_that_the_commit_lacks_is_taken_as_it_is_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After that its code has to be compared: else any change of a new stage would count as proved."""
    old = types.SimpleNamespace(folder=project / "nothing", name="abc")
    monkeypatch.setattr(code_proof, "unpacked", lambda *_: old)
    (project / proofs.CODE).unlink(missing_ok=True)
    case = cases.Case("tiny", "smoke", (), ("spectra",))
    (row,), todo, lacking = code_proof.what_to_prove("abc", [case], ["spectra"], everything=False, root=project)
    assert (row.verdict, row.case, todo, lacking) == (proofs.NEW_STAGE, "", {"tiny": []}, [])
    assert proofs.unproved_cases("spectra", ["tiny"], [row], code=row.code, at=1) == []
    proofs.write_code_proofs([row], project / proofs.CODE)
    again = code_proof.what_to_prove("abc", [case], ["spectra"], everything=False, root=project)
    assert again == ([], {"tiny": []}, [])
    edit(project / "stages/spectra.py", "def main", "print()\n\n\ndef main")
    changed = code_proof.what_to_prove("abc", [case], ["spectra"], everything=False, root=project)
    assert changed == ([], {"tiny": []}, ["spectra"])


# --- end to end -----------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_a_code_proof_sees_a_planted_change_of_a_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone whose working tree differs from its commit by one factor in the counts."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--no-checkout", str(ROOT), str(clone)], check=True)
    for name in ("src", "stages", "conf", ".dvc", "examples", "verified"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__", "tmp", "cache"))
    for name in ("dvc.yaml", "pyproject.toml", "revisions.yaml", "digests", "hydra_plugins"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, clone / name)
    commit = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "as it is"]
    for command in (["git", "reset", "-q"], ["git", "add", "-A", "src", "stages", "conf", "dvc.yaml"], commit):
        subprocess.run(command, check=False, cwd=clone)
    monkeypatch.chdir(clone)
    case = cases.Case(
        "tiny", "smoke", (("datasets=[digits_n64]",), ("batch_sizes=[32]",), ("batch_size=32",)), ("train", "spectra")
    )
    said: list[str] = []
    (rows,) = code_proof.prove("HEAD", [case], {"tiny": case.stages}, jobs=1, say=said.append)
    assert {row.stage: row.verdict for row in rows} == dict.fromkeys(case.stages, proofs.SAME_BITS)
    assert all(row.numbers > 100 for row in rows)
    planted = clone / "src/gapscope/training/loop.py"
    edit(planted, "update(batch, schedule.rates[state.step],", "update(batch, schedule.rates[state.step] * (1 + 1e-7),")
    (rows,) = code_proof.prove("HEAD", [case], {"tiny": case.stages}, jobs=1, say=said.append)
    # spectra are judged for themselves, on the old weights
    assert {row.stage: row.verdict for row in rows} == {"train": proofs.DIFFERENT, "spectra": proofs.SAME_BITS}
