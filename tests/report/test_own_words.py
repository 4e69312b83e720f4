"""What a page says fits what its study trained: networks without batch norm, rows of tables, rates that were chosen."""

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_up import ROOT, drawn_studies
from matplotlib.figure import Figure

from gapscope import papers
from gapscope.claims.in_task import in_task
from gapscope.config import load_params
from gapscope.drawing.figure import styled
from gapscope.measures import curvature_radius_figures, evaluation
from gapscope.measures.evaluation_figures import running_note
from gapscope.measures.study import Study, words_of_records
from gapscope.records.tables import write_record, write_table
from gapscope.report import page
from gapscope.tasks.words import CLASSIFICATION, WORDS

METRICS, PLOTS = ROOT / "metrics", ROOT / "plots"


def captions(study: str) -> dict[str, str]:
    words = page.words(METRICS / study)
    first, others = page.figures(PLOTS / study, METRICS / study, "evaluation", words.said)
    return {figure.name: figure.caption for figure in (*first, *others)}


def means(folder: Path, **errors: float) -> Path:
    about = {"model": "net", "dataset": "mine", "batch_size": 8, "quantity": "error_pct", "split": "test", "n": 1}
    rows = [{**about, "statistics": name, "mean": value} for name, value in errors.items()]
    write_table(folder / "batch_sizes.csv", pd.DataFrame(rows))
    return folder


def test_curves_have_a_note_on_batch_norm_where_its_statistics_differ(tmp_path: Path) -> None:
    assert running_note(means(tmp_path, running=2.0, reestimated=1.5))
    assert not running_note(means(tmp_path, running=1.5, reestimated=1.5))
    said = {study: "running statistics" in captions(study)["curves"] for study in ("table05", "table07", "example")}
    assert said == {"table05": True, "table07": False, "example": False}  # examples/nets.py has no batch norm


def radii(series: str) -> pd.DataFrame:
    about = {"model": "net", "dataset": "mine", "seed": 0, "panel": "radius", "value": 1.0, "source": "measured"}
    return pd.DataFrame([{**about, "batch_size": size, "series": f"1/h, {series}"} for size in (8, 16)])


def test_initial_weights_are_spoken_of_where_they_are_drawn() -> None:
    said = {name: "initial" in curvature_radius_figures.against_batch_size_caption(radii(name)) for name in STATES}
    assert said == {"initial": True, "trained": False}


STATES = ("initial", "trained")


def test_a_figure_s_title_says_what_training_changes_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    usual = load_params(METRICS / "quick" / "params.yaml")
    for train, called in (
        ({}, "LeNet-5"),
        ({"batch_norm": False}, "LeNet-5 without batch norm"),
        ({"linear_units": True}, "LeNet-5 with linear units"),
        ({"linear_units": True, "average_pooling": True}, "a fully linear LeNet-5"),
    ):
        groups = usual.groups | {"train": usual.groups["train"] | train}
        one = Study(replace(usual, models=("lenet5", "lenet5_w2"), groups=groups))
        assert one.said("Error: LeNet-5 on MNIST (n = 3)") == f"Error: {called} on MNIST (n = 3)"
        wide = "LeNet-5 of 2 times the width"
        assert one.said(f"{wide} on MNIST") == f"{called.replace('LeNet-5', wide)} on MNIST"


@pytest.mark.parametrize("study", ["gao_radius", "table05_new_seeds"])
def test_a_panel_of_vectors_names_batch_norm_where_there_is_some(study: str) -> None:
    text = (PLOTS / study / "curvature_radius.csv").read_text(encoding="utf-8")
    rows = pd.read_csv(PLOTS / study / "curvature_radius.csv")
    figure = styled(curvature_radius_figures.draw_by_tensor, rows)
    titles = " ".join(axes.get_title() for axes in figure.axes)
    plt.close(figure)
    assert "biases" in titles
    assert ("batch norm" in titles.replace("\n", " ")) == (".norm." in text)


@pytest.mark.parametrize("study", ["tabular", "regression"])
def test_rows_of_a_table_are_not_called_images(study: str) -> None:
    words = page.words(METRICS / study)
    assert words.said("Images; over b images; an image") == "Examples; over b examples; an example"
    assert [name for name, caption in captions(study).items() if "image" in caption] == []
    claims = in_task(papers.claims(), words)
    texts = [text for claim in claims for text in (claim.statement, claim.caution, claim.source)]
    assert [text for text in texts if "image" in text.lower()] == []
    assert any("image" in claim.statement for claim in in_task(papers.claims(), CLASSIFICATION))


def test_images_stay_images(tmp_path: Path) -> None:
    for shape, words in (([1, 28, 28], CLASSIFICATION), ([30], CLASSIFICATION.of_rows())):
        write_record(tmp_path / "train/a.json", {"model": {"image_shape": shape}})
        assert words_of_records(tmp_path, {"error_pct", "cross_entropy"}) == words
    assert words_of_records(tmp_path / "none", ()) == CLASSIFICATION


def rates_of(folder: Path, *chosen: tuple[int, int, float], candidates: tuple[float, ...] = (0.1, 0.2, 0.4)) -> str:
    for size, seed, lr in chosen:
        run = {"model": {"name": "net"}, "dataset": "mine", "batch_size": size, "seed": seed, "lr_start": lr}
        write_record(folder / f"train/b{size}-s{seed}.json", {**run, "lr_sweep": [{"lr": lr} for lr in candidates]})
    return " ".join(evaluation.table_notes(folder))


def test_the_rates_that_were_chosen_are_told_by_batch_size_and_seed(tmp_path: Path) -> None:
    told = rates_of(tmp_path / "inside", (512, 0, 0.2), (64, 1, 0.2), (64, 0, 0.2))
    assert "b = 64: 0.2, 0.2; b = 512: 0.2." in told
    assert "at an end" not in told
    assert "at an end" in rates_of(tmp_path / "end", (64, 0, 0.4))
    assert rates_of(tmp_path / "fixed", (64, 0, 0.1), candidates=()) == ""


def named_ticks(figure: Figure) -> list[int]:
    """Return how many values each panel's y axis names."""
    figure.draw_without_rendering()
    counts = []
    for axes in figure.axes:
        low, high = axes.get_ylim()
        places = [*axes.get_yticks(), *axes.get_yticks(minor=True)]
        labels = [*axes.get_yticklabels(), *axes.get_yticklabels(minor=True)]
        named = zip(places, labels, strict=True)
        counts.append(sum(bool(label.get_text()) and low <= place <= high for place, label in named))
    plt.close(figure)
    return counts


@pytest.mark.parametrize("errors", [(61.0, 74.0), (23.0, 25.6), (0.0, 90.0), (1.1, 1.9), (0.0, 0.05)])
def test_a_training_curve_has_values_at_its_axis(errors: tuple[float, float]) -> None:
    shown, rows = drawn_studies()["curves"]
    low, high = errors
    span = rows["epoch"].max() - rows["epoch"].min()
    rows = rows.assign(test_error_pct=low + (high - low) * (rows["epoch"].max() - rows["epoch"]) / (span or 1))
    assert min(named_ticks(styled(shown.draw, rows))) >= 2


@pytest.mark.parametrize("task", sorted(WORDS))
def test_no_text_is_put_into_the_task_s_words_twice(task: str) -> None:
    text = "Train cross-entropy (nats), errors, test error (%) and lose accuracy over b images, standard error"
    once = WORDS[task].said(text)
    assert page.in_words_of(WORDS[task])(once) == once
    assert page.in_words_of(WORDS[task])(text) == once
