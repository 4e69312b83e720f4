"""Strides and loss curves from a run's record: quantities in closed form, figures from made-up runs."""

import math
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).parents[1] / "report"))

from made_up import Made

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import styled
from gapscope.errors import InputError
from gapscope.measures import loss_curves, loss_curves_figures, strides, strides_figures
from gapscope.numerics.fluctuation import log_residuals, scatter
from gapscope.records.long import select

EPOCHS, UPDATES, IMAGES = 20, {128: 8, 512: 2}, 1024
LAYERS = ("conv.weight", "conv.bias", "head.weight")
RUNS = [{"model": "lenet5", "dataset": "digits", "batch_size": b, "seed": s} for b in UPDATES for s in (0, 1)]


def observed(run: dict[str, Any], losses: bool = True) -> pd.DataFrame:
    """A record of training: strides of 1/epoch times b, a probe's loss and, if asked for, those of batches."""
    rng = np.random.default_rng(run["batch_size"] + run["seed"])
    updates, rows = UPDATES[run["batch_size"]], []
    path = 0.0
    for epoch in range(1, EPOCHS + 1):
        for number, layer in enumerate(LAYERS):
            stride = (number + 1) * run["batch_size"] / epoch
            path += stride * updates if number == 0 else 0.0
            values = {"stride": stride, "stride_per_lr": 10 * stride, "mean_square_gradient": stride**2}
            values |= {"path": (number + 1) * path, "net_displacement": 3.0 * (number + 1)}
            rows += [{"epoch": epoch, "layer": layer, "quantity": name, "value": of} for name, of in values.items()]
        probe = {"split": "train", "statistics": "running", "quantity": "cross_entropy"}
        rows.append({"epoch": epoch, **probe, "value": math.exp(-epoch / 10 + 0.1 * rng.standard_normal())})
        for read in range(updates if losses else 0):
            at = {"epoch": epoch, "update": (epoch - 1) * updates + read + 1}
            rows.append({**at, "quantity": "batch_loss", "value": math.exp(0.3 * rng.standard_normal())})
            rows.append({**at, "quantity": "batch_loss_sampling_sd", "value": 0.2})
    rows.append({"quantity": "updates", "value": updates * EPOCHS})
    table = pd.DataFrame(rows)
    return table.astype({"epoch": "Int64"} | ({"update": "Int64"} if losses else {}))


def study(of: type | Any = strides, losses: bool = True) -> Made:
    made = Made(stages={"train": [(run, {}, observed(run, losses)) for run in RUNS]})
    made.values = of.run_rows(made)
    made.cells = pd.DataFrame(RUNS).assign(status="ok")
    return made


def value(table: pd.DataFrame, quantity: str, run: dict[str, Any], **where: Any) -> float:
    here = table[(table["batch_size"] == run["batch_size"]) & (table["seed"] == run["seed"])]
    (found,) = select(here, quantity, where)["value"]
    return float(found)


def check_quantities(run: dict[str, Any], area: float, per_update: float) -> None:
    table = study().values
    size, updates = run["batch_size"], UPDATES[run["batch_size"]]
    harmonic = sum(1 / epoch for epoch in range(1, EPOCHS + 1))
    known = {
        "first_epoch_stride_per_lr": 10 * size, "first_epoch_loss_stride": size**2, "stride_area": area * size,
        "path": harmonic * size * updates, "stride_per_update": per_update * size, "net_displacement": 3.0,
        "net_over_path": 3 / (harmonic * size * updates),
    }  # fmt: skip
    assert set(known) == set(strides.QUANTITIES)
    for quantity, of in known.items():
        assert value(table, quantity, run, layer="conv.weight") == pytest.approx(of, rel=1e-12)
    assert value(table, "stride_area", run, layer="head.weight") == pytest.approx(3 * area * size, rel=1e-12)


@pytest.mark.parametrize("run", RUNS[::2], ids=str)
def test_each_quantity_of_a_layer_is_that_of_the_record(run: dict[str, Any]) -> None:
    harmonic = sum(1 / epoch for epoch in range(1, EPOCHS + 1))
    check_quantities(run, harmonic, harmonic / EPOCHS)
    with pytest.raises(AssertionError):
        check_quantities(run, harmonic * UPDATES[run["batch_size"]], harmonic / EPOCHS)  # the area is no path


def test_layers_keep_the_networks_order() -> None:
    assert study().values["layer"].drop_duplicates().tolist() == list(LAYERS)


def test_runs_without_strides_are_refused_with_one_clear_line() -> None:
    made = study(loss_curves)
    made.stages["train"] = [(run, {}, table[table["layer"].isna()]) for run, _, table in made.stages["train"]]
    with pytest.raises(InputError, match=r"set train.observers: \[strides\] and train again"):
        strides.run_rows(made)


# --- loss curves ---


def test_the_fluctuation_of_the_probe_is_that_of_its_log_residuals_by_half() -> None:
    made = study(loss_curves)
    for run, _, table in made.stages["train"]:
        losses = table.loc[table["quantity"] == "cross_entropy", "value"].to_numpy(dtype=float)
        residuals = log_residuals(losses, 5)
        for half, part in (("first", residuals[:10]), ("second", residuals[10:])):
            found = value(made.values, "loss_fluctuation", run, sample="probe", half=half)
            assert found == pytest.approx(scatter(part), rel=1e-12)


def test_the_fluctuation_of_batches_stands_beside_what_sampling_alone_gives() -> None:
    made = study(loss_curves)
    for run, _, table in made.stages["train"]:
        losses = table.loc[table["quantity"] == "batch_loss", "value"].to_numpy(dtype=float)
        window = {128: 41, 512: 11}[run["batch_size"]]  # of 8 or 2 updates in each of 5 epochs, and odd
        half = len(losses) // 2
        found = value(made.values, "loss_fluctuation", run, sample="batch", half="first")
        assert found == pytest.approx(scatter(log_residuals(losses, window)[:half]), rel=1e-12)
        alone = value(made.values, "sampling_fluctuation", run, sample="batch", half="second")
        assert alone == pytest.approx(float(np.sqrt(np.mean((0.2 / losses[half:]) ** 2))), rel=1e-12)


def test_without_the_observer_there_is_the_probe_alone() -> None:
    table = study(loss_curves, losses=False).values.dropna(subset="value")
    assert set(table["sample"]) == {"probe"}
    assert set(table["quantity"]) == {"loss_fluctuation"}
    assert set(table["half"]) == {"first", "second"}


def test_short_and_diverged_runs_have_no_fluctuation() -> None:
    made = Made(stages={"train": [(run, {}, observed(run)) for run in RUNS]})
    for number, (_, _, table) in enumerate(made.stages["train"]):
        chosen = table["quantity"] == "cross_entropy"
        if number == 0:
            table.loc[chosen, "value"] = np.nan
        elif number == 1:
            table.loc[chosen & (table["epoch"] > 3), "value"] = 0.0
    found = loss_curves.run_rows(made).dropna(subset="value")
    probe = found[found["sample"] == "probe"]
    assert set(zip(probe["batch_size"], probe["seed"], strict=True)) == {(512, 0), (512, 1)}


# --- figures ---


def test_every_figure_draws_its_table() -> None:
    for module, figures in ((strides, strides_figures.FIGURES), (loss_curves, loss_curves_figures.FIGURES)):
        made = study(module)
        for figure in figures:
            rows = figure.table(made)
            assert not rows.empty
            assert not rows.drop(columns="sampling_sd", errors="ignore").isna().all().any() or "source" in rows
            drawn = styled(figure.draw, rows)
            assert all(axes.get_xlabel() for axes in drawn.axes if axes.get_visible())
            assert figure.caption(rows)
            plt.close(drawn)


def test_the_stride_figure_has_a_line_per_batch_size_in_each_layers_panel() -> None:
    rows = strides_figures.by_epoch(study())
    figure = styled(strides_figures.draw_by_epoch, rows)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title().split(": ")[-1] for axes in shown] == ["conv.weight", "head.weight"]
    first = rows[(rows["layer"] == "conv.weight") & (rows["batch_size"] == rows["batch_size"].min())]
    means = first.groupby("epoch")["stride"].mean().tolist()
    assert any(
        list(line.get_ydata()) == pytest.approx(means) for line in shown[0].lines if len(line.get_ydata()) == EPOCHS
    )
    plt.close(figure)


def test_a_figure_shows_weights_of_layers_evenly_spaced() -> None:
    names = [f"{n}.{kind}" for n in range(20) for kind in ("weight", "bias")] + ["norm.weight"]
    rows = pd.DataFrame({"layer": names})
    assert drawing.layers_shown(rows, 3) == ["0.weight", "10.weight", "19.weight"]
    assert drawing.layers_shown(rows.iloc[1::2], 3)[0] == "0.bias"  # no weights: whatever there is
    assert drawing.layers_shown(rows.iloc[:2], 3) == ["0.weight"]
