"""What a page opens with, and the page of remedies: made of params and records, whose answers are known."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_up import ROOT

from gapscope import papers
from gapscope.config import read_yaml
from gapscope.records.files import write_text
from gapscope.records.tables import write_record, write_table
from gapscope.report import remedies
from gapscope.report.opening import at_odds, opening
from gapscope.report.question import answering, run

PARAMS: dict[str, Any] = {
    "models": ["lenet5"], "datasets": ["fashion_mnist"], "batch_sizes": [128, 8192, 128], "seeds": [0, 1, 2],
    "epochs": 60, "measures": ["evaluation", "near_rank", "sharpness"], "claims": {"arm": "plain", "reference": "mine"},
}  # fmt: skip
ROW: dict[str, Any] = {
    "claim": "test_error_rises", "statement": "Test error rises", "family": "primary", "model": "lenet5",
    "dataset": "fashion_mnist", "verdict": "supported", "effect": 0.92, "effect_low": 0.33, "effect_high": 1.5,
    "effect_unit": "points", "why": "significant, corrected p = 0.0004; the rest", "n": 3, "margin": "0.5 points",
}  # fmt: skip


def question(**changes: Any) -> str:
    return opening("mine", {**PARAMS, **changes}, Path(), []).question


def test_the_title_is_the_question_of_each_kind_of_study() -> None:
    assert question() == "Does LeNet-5 on Fashion-MNIST lose accuracy at large batch?"
    assert question(train={"batch_norm": False}).startswith("Does LeNet-5 without batch norm on Fashion-MNIST lose")
    assert question(models=["lenet5_w0.5", "lenet5"], claims={"arm": "width"}).count("LeNet-5") == 1
    assert "longer training close the large-batch gap of LeNet-5" in question(claims={"arm": "longer"})
    assert "Does my own idea close the large-batch gap" in question(claims={"arm": "my_own_idea"})
    assert "sharper minima" in question(measures=["evaluation", "near_rank", "landscape"])
    assert "random matrices" in question(models=[], datasets=[], measures=["random_matrices"])
    assert opening("mine", {}, Path(), []).question == "mine"


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"batch_norm": False}},
        {"train": {"linear_units": True}},
        {"train": {"linear_units": True, "average_pooling": True}},
        {"train": {"augment": True}},
        {"epochs": 16},
        {"seeds": [3, 4, 5]},
    ],
)
def test_the_title_says_what_distinguishes_a_study(changes: dict[str, Any]) -> None:
    assert question(**changes) != question()
    remedy = {"claims": {"arm": "longer"}}
    assert question(**remedy, **changes) != question(**remedy) or "epochs" in changes  # longer than what is not short


@pytest.mark.parametrize(
    ("arm", "one", "other"),
    [
        ("layerwise", {"optimizer": {"name": "lars"}}, {"optimizer": {"name": "lamb"}}),
        *[("switching", *({"schedule": {"batch_schedule": [{"epoch": at, "batch_size": 128}]}} for at in (16, 31)))],
        *[("discarding_control", *({"discard": {"by": by, "mean": "kept"}} for by in ("random", "class_mix")))],
        *[("discarding_control", *({"discard": {"by": "small_loss", "mean": mean}} for mean in ("kept", "batch")))],
    ],
)
def test_two_studies_of_one_remedy_have_two_titles(arm: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert len({question(claims={"arm": arm}, train=train) for train in (one, other)}) == 2


def test_a_question_about_weights_says_which() -> None:
    taken = {"measures": ["evaluation", "gradient_law"]}
    assert question(**taken, gradient_law={"epochs": [0, 1]}).endswith(", before training and after epoch 1?")
    assert question(**taken, gradient_law={"epochs": [0]}).endswith(", before training?")
    taken = {"measures": ["evaluation", "curvature_radius"], "epochs": 1}  # type: ignore[dict-item]
    assert question(**taken, curvature_radius={"states": ["trained"]}).endswith(", after 1 epoch?")
    assert question(**taken, curvature_radius={"states": ["initial", "trained"]}).endswith(
        "training and after 1 epoch?"
    )


def test_no_two_committed_studies_have_one_title() -> None:
    params = [read_yaml(path) for path in sorted((ROOT / "metrics").glob("*/params.yaml"))]
    titles = [title for of in params if (title := opening(of["study"], of, Path(), []).question)]
    assert len(titles) > 30
    assert len(set(titles)) == len(titles)


def test_the_length_of_a_run_is_said_in_what_is_fixed() -> None:
    assert run(PARAMS) == "batch sizes 128 to 8192, 3 seeds, 60 epochs"
    assert run({**PARAMS, "train": {"schedule": {"updates": 1080}}}).endswith(", 1,080 updates")
    assert run({**PARAMS, "train": {"schedule": {"patience": 5}}}).endswith(", at most 60 epochs")


def test_the_answer_is_that_of_the_claim_about_test_error_and_the_primary_one_after_it() -> None:
    loss = {**ROW, "claim": "train_cross_entropy_rises", "statement": "Train loss rises", "verdict": "undecided"}
    other = {**ROW, "claim": "distance_falls", "statement": "Another thing", "family": "secondary"}
    found = opening("mine", PARAMS, Path(), [other, loss, ROW])
    assert [("Test error rises" in text, "Train loss rises" in text) for text in found.sentences] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert found.sentences[0].startswith("Yes.")
    assert "the rest" not in found.sentences[0]
    (undecided,) = opening("mine", PARAMS, Path(), [{**ROW, "verdict": "undecided"}]).sentences
    assert undecided.startswith("Undecided.")
    assert undecided.endswith(at_odds({**ROW, "verdict": "undecided"}))  # its interval excludes 0, so it says why
    assert opening("mine", PARAMS, Path(), [other]).sentences == []


def test_of_random_matrices_the_disagreeing_cells_are_counted(tmp_path: Path) -> None:
    cells = [("A1", "agrees", 0.5, ""), ("A1", "off", 15.4, "")]
    cells += [("A2", "off", -98.2, "uniform 4 x 2"), ("A2", "not measured", None, "")]  # type: ignore[list-item]
    table = pd.DataFrame(cells, columns=["table", "verdict", "difference_se", "fits"])
    write_table(tmp_path / "paper.csv", table)
    params = {**PARAMS, "models": [], "datasets": [], "measures": ["random_matrices"]}
    (sentence,) = opening("mine", params, tmp_path, []).sentences
    assert sentence.startswith("2 of 3 printed cells disagree")
    assert "15.4 to 98.2 standard errors" in sentence
    assert "1 of them" in sentence


@pytest.mark.parametrize(
    ("verdict", "low", "high", "unit", "told"),
    [
        ("supported", 0.1, 1.0, "points", False),
        ("supported", -0.1, 1.0, "points", True),
        ("supported", 0.5, 2.0, "times", True),
        ("undecided", -0.1, 1.0, "points", False),
        ("undecided", 0.1, 1.0, "points", True),
        ("undecided", 1.1, 2.0, "times", True),
        ("no effect", 0.1, 0.2, "points", True),
        ("no effect", -0.1, 0.2, "points", False),
        ("not comparable", 0.1, 1.0, "points", False),
        ("undecided", None, None, "points", False),
    ],
)
def test_an_interval_that_seems_to_contradict_its_verdict_is_explained(
    verdict: str, low: float | None, high: float | None, unit: str, told: bool
) -> None:
    row = {**ROW, "verdict": verdict, "effect_low": low, "effect_high": high, "effect_unit": unit}
    assert bool(at_odds(row)) == told
    assert not at_odds({**row, "claim": "decrement_power_law"})  # states a value, so 0 means nothing to it


def made(folder: Path, study: str, gaps: list[tuple[str, int, float]], **params: Any) -> None:
    """A study's gaps, by network and batch size, and its params."""
    rows = [
        {"model": model, "dataset": "mine", "batch_size": size, "smallest": 16, "gap": gap, "gap_low": gap - 0.5}
        | {"gap_high": gap + 0.5, "updates": 100.0 * gap, "n": 3}
        for model, size, gap in gaps
    ]
    write_table(folder / "metrics" / study / "gap.csv", pd.DataFrame(rows))
    models = list(dict.fromkeys(model for model, *_ in gaps))
    write_record(folder / "metrics" / study / "params.yaml", {"models": models, "datasets": ["mine"], **params})


def test_each_remedy_stands_beside_its_reference_at_the_largest_batch_of_both(tmp_path: Path) -> None:
    made(tmp_path, "usual", [("net", 64, 1.0), ("net", 256, 4.0)], claims={"arm": "plain", "reference": "usual"})
    made(tmp_path, "longer", [("net", 64, 0.5), ("net", 128, 9.0)], claims={"arm": "longer", "reference": "usual"})
    widths = [("net_w0.5", 256, 6.0), ("net", 256, 5.0), ("net_w2", 256, 3.0)]
    made(tmp_path, "wide", widths, claims={"arm": "width", "reference": "wide"})
    made(tmp_path, "alone", [("net", 64, 1.0)], claims={"arm": "longer", "reference": "absent"})
    for study, seconds in (("usual", 10.0), ("longer", 30.0)):
        write_text(tmp_path / f"metrics/{study}/train/net-mine-b64-s0.json", "{}")
        provenance = {"wall_s": seconds, "device": "cpu (x86_64)"}
        write_record(tmp_path / f"provenance/{study}/train/net-mine-b64-s0.json", provenance)
    found = remedies.rows(tmp_path / "metrics", ["usual", "longer", "wide", "alone"])
    assert found[["study", "size", "gap_before", "gap_after"]].to_numpy().tolist() == [
        ["longer", 64, 1.0, 0.5], ["wide", 256, 5.0, 3.0],
    ]  # fmt: skip
    table = remedies.table(found)
    costs = [[str(cell).replace(remedies.NO_BREAK, " ") for cell in row[-2:]] for row in table.rows]
    assert costs == [["100 → 50", "10 → 30 (cpu)"], ["500 → 300", "not recorded"]]
    assert remedies.figure(found).count("before the remedy; ") == 2


def test_a_remedy_names_the_network_as_its_study_changes_it(tmp_path: Path) -> None:
    for study, arm in (("usual", "plain"), ("longer", "longer")):
        changed = {"claims": {"arm": arm, "reference": "usual"}, "train": {"batch_norm": False}}
        made(tmp_path, study, [("net", 64, 1.0)], **changed)
    assert remedies.rows(tmp_path / "metrics", ["longer"])["pair"].tolist() == ["net without batch norm on mine"]


def test_a_warm_up_is_asked_about_what_its_claim_is_about() -> None:
    asked = {claim.measure for claim in papers.claims() if claim.arm == "warmup"}
    params = {**PARAMS, "claims": {"arm": "warmup"}}
    assert {answering(params)} == asked
