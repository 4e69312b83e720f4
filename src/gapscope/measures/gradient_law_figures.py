"""Figures of the gradient law: Gao & Zhong, Figures 3 and 9, with the laws and the controls beside the measured."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures.gradient_law import study_table
from gapscope.measures.study import Study

LAYERS, COLUMNS, WIDTH, HEIGHT = 6, 3, 3.75, 3.1
BATCH = "images in the gradient, n"
LAWS = {
    "folded_normal": "with each μ and σ (folded normal)",
    "common_sigma": "with each μ, one σ per layer",
    "equation_4_corrected": "equation 4, constant corrected",
    "equation_4": "equation 4 as printed",
}
CHOICES = {
    "small_loss": "small losses (paper)",
    "class_mix": "random, same classes as small losses",
    "large_loss": "large losses",
    "within_class": "small losses within each class",
    "random": "random",
}
DECREMENTS = (  # name, quantity, sample
    ("equation 8: lr σ²/n", "equation_8_decrement", None),
    ("own batch, to first order", "first_order_decrement", "batch"),
    ("own batch, really", "loss_decrement", "batch"),
    ("probe, to first order", "first_order_decrement", "probe"),
    ("probe, really", "loss_decrement", "probe"),
)
FLOOR = 0.1  # of the ratio when samples are discarded: without the large losses a trained network has no gradient left
SEED = ["model", "dataset", "seed", "epoch"]


def _rows(study: Study, quantities: tuple[str, ...], axes: tuple[str, ...]) -> pd.DataFrame:
    table = study_table(study)
    table = table[table["quantity"].isin(quantities)]
    return table.reindex(columns=[*SEED, *axes, "quantity", "value", "low", "high"])


def _grid(
    rows: pd.DataFrame, name: str, quantity: str, layers: list[str] | None = None
) -> tuple[Drawing, list[tuple[Axes, pd.DataFrame]]]:
    """Return a figure and its panels, each with its rows; a panel is entitled with quantity, epoch and layer."""
    panels = _panels(rows, quantity, layers)
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(WIDTH * columns, HEIGHT * lines), squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    drawn = []
    for axes, (title, of) in zip(grid.flat, panels, strict=False):
        axes.set_title(title)
        drawn.append((axes, of))
    drawing.entitle_figure(figure, name, rows)
    return figure, drawn


def _panels(rows: pd.DataFrame, quantity: str, layers: list[str] | None) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of each panel: one per model and data set, per epoch, and per layer if there are some."""
    panels = []
    pairs = drawing.pairs_of(rows)
    for pair in pairs:
        here = drawing.of_pair(rows, pair)
        network = drawing.pair_title(pair, here) if len(pairs) > 1 else ""
        for epoch, of in here.groupby("epoch"):
            for layer in layers or [""]:
                where = ", ".join(filter(None, [_epoch(epoch), layer]))
                title = "\n".join(filter(None, [quantity, where, network]))
                panels.append((title, of[of["layer"] == layer] if layer else of))
    return panels


def _epoch(epoch: Any) -> str:
    return "initial weights" if epoch == 0 else f"after epoch {epoch}"


def _mean_line(axes: Axes, rows: pd.DataFrame, x: str, label: str, **look: Any) -> None:
    mean = rows.groupby(x)["value"].mean()
    if len(mean):
        axes.plot(mean.index.astype(float), mean, label=label, **look)


# --- Figure 3 ---


def gradients(study: Study) -> pd.DataFrame:
    """Return the mean |g| of each layer at the first measured epoch, measured and predicted, and its noise scale."""
    rows = _rows(study, ("mean_abs", "mean_abs_law", "layer_noise_scale"), ("layer", "images", "law"))
    first: pd.DataFrame = rows[rows["epoch"] == rows["epoch"].min()]
    return first


def gradients_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        f"Mean |g| of some layers' weights at the {_epoch(rows['epoch'].min())}"
        f"{drawing.over_seeds(rows, '; means over seeds')}. The grey line is the"
        " layer's noise scale n*: to its right the mean gradient outweighs the noise, and |g| stops falling. Equation 4"
        " has no mean gradient."
    )


def draw_gradients(rows: pd.DataFrame) -> Drawing:
    """Draw the mean |g| against the batch size, one panel per layer, with the laws."""
    name = "Mean gradient against the batch size, measured and predicted"
    figure, panels = _grid(rows, name, "mean |g|", drawing.layers_shown(rows, LAYERS))
    for axes, here in panels:
        looks = drawing.looks()
        measured = here[here["quantity"] == "mean_abs"]
        _mean_line(axes, measured, "images", "measured", **looks[0] | {"linestyle": ""})
        for look, (law, label) in zip(looks[1:], LAWS.items(), strict=False):
            _mean_line(axes, here[here["law"] == law], "images", label, **look | {"marker": ""})
        scale = here.loc[here["quantity"] == "layer_noise_scale", "value"]
        if np.isfinite(scale).any():
            axes.axvline(scale[np.isfinite(scale)].mean(), color="0.6", linewidth=1, gid="noise scale n*")
        axes.set(xscale="log", yscale="log", xlabel=BATCH)
    return figure


# --- exponents and noise scales ---


def exponents(study: Study) -> pd.DataFrame:
    """Return the local exponent of the mean |g| of each layer, with its interval."""
    return _rows(study, ("exponent",), ("layer", "images"))


def exponents_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        f"Slope of log |g| from n to the next larger n{drawing.over_seeds(rows, ', means over seeds')}. Equation 4 says"
        " −1/2 (dashed) at every n;"
        " 0 means that a larger batch no longer shrinks the gradient. The tables have intervals and all layers."
    )


def draw_exponents(rows: pd.DataFrame) -> Drawing:
    """Draw the local exponent against the batch size, one panel per epoch, one line per layer."""
    figure, panels = _grid(rows, "Local exponent of the mean gradient", "exponent of mean |g|")
    for axes, here in panels:
        for look, layer in zip(drawing.looks(), drawing.layers_shown(rows, LAYERS), strict=False):
            _mean_line(axes, here[here["layer"] == layer], "images", layer, **look)
        axes.axhline(-0.5, color="0.4", linestyle="--", linewidth=1, gid="equation 4")
        axes.set(xscale="log", xlabel=BATCH)
    return figure


def noise_scales(study: Study) -> pd.DataFrame:
    """Return the noise scale n* of each layer, with its interval."""
    return _rows(study, ("layer_noise_scale",), ("layer",))


def noise_scales_caption(_: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "The batch size n* at which noise and mean of a layer's gradient are equal. Points are seeds, bars 95 %"
        " intervals; where the mean gradient cannot be told from 0, only the lower end is drawn (▵)."
    )


def draw_noise_scales(rows: pd.DataFrame) -> Drawing:
    """Draw n* of every layer, one panel per epoch."""
    layers = list(rows["layer"].drop_duplicates())
    figure, panels = _grid(rows, "Noise scale of each layer", "noise scale n*")
    figure.set_figheight(figure.get_figheight() * max(1.0, (1.0 + 0.22 * len(layers)) / HEIGHT))
    for axes, here in panels:
        for place, (look, (seed, of)) in enumerate(zip(drawing.looks(), here.groupby("seed"), strict=False)):
            at = of["layer"].map(layers.index).to_numpy() + 0.12 * (place % 4)
            known = np.isfinite(of["value"].to_numpy())
            value, low, high = (of[end].to_numpy() for end in ("value", "low", "high"))
            ends = np.array([value[known] - low[known], np.where(np.isfinite(high), high, value)[known] - value[known]])
            style = look | {"linestyle": "", "markersize": 4}
            axes.errorbar(value[known], at[known], xerr=ends, fmt="none", elinewidth=1, ecolor=style["color"])
            axes.plot(value[known], at[known], label=f"seed {seed}", **style)  # its marks, which a page can tell
            style |= {"marker": "^", "markerfacecolor": "none"}
            axes.plot(low[~known], at[~known], **style, gid=f"seed {seed}: lower end of the interval")
        axes.set_yticks(range(len(layers)), layers)
        axes.set(xscale="log", xlabel="images")
        axes.invert_yaxis()
    return figure


# --- equation 8 ---


def decrements(study: Study) -> pd.DataFrame:
    """Return the loss that one step gains at each batch size, on its own batch and on the probe."""
    return _rows(study, tuple(dict.fromkeys(quantity for _, quantity, _ in DECREMENTS)), ("sample", "images"))


def decrements_caption(_: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "One step of SGD at the first learning rate. A small batch gains more on its own images, as equation 8 says."
        " On test images that it has not seen, the expected gain to first order is the same at every n."
    )


def draw_decrements(rows: pd.DataFrame) -> Drawing:
    """Draw what one step gains against the batch size, one panel per epoch."""
    figure, panels = _grid(
        rows, "Loss that one step gains, against the batch size of its gradient", "loss gained (nats)"
    )
    for axes, here in panels:
        for look, (label, quantity, sample) in zip(drawing.looks(), DECREMENTS, strict=False):
            chosen = here["quantity"] == quantity
            _mean_line(axes, here[chosen & (here["sample"] == sample if sample else True)], "images", label, **look)
        axes.set(xscale="log", xlabel=BATCH)
        axes.set_yscale("symlog", linthresh=1e-4 * here["value"].abs().max())  # some are below 0
    return figure


# --- Figure 9 ---


def discarded(study: Study) -> pd.DataFrame:
    """Return the mean |g| of the samples that are kept, divided by that of the whole batch."""
    rows = _rows(study, ("discarded_mean_abs",), ("layer", "choice", "discarded")).drop(columns=["low", "high"])
    index = [*SEED, "layer", "choice"]
    whole = rows[rows["discarded"] == 0].set_index(index)["value"]
    of_row = whole.loc[pd.MultiIndex.from_frame(rows[index])].to_numpy()
    return rows.assign(value=rows["value"].to_numpy() / of_row)


def discarded_caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    return (
        "Mean |g| over the samples kept, divided by that of the whole batch"
        f"{drawing.over_seeds(rows, '; means over seeds')}. If random samples with the"
        " same classes do the same, the cause is the class mix. If the line follows 1/(1 − p), discarding only raises"
        " the learning rate: the discarded samples had no gradient, and the mean divides by fewer. Ratios below"
        f" {FLOOR} are not drawn."
    )


def draw_discarded(rows: pd.DataFrame) -> Drawing:
    """Draw the ratio against the share of samples discarded, one panel per epoch and layer."""
    name = "Mean gradient when samples of a batch are discarded"
    figure, panels = _grid(rows, name, "mean |g|, ratio to p = 0", drawing.layers_shown(rows, COLUMNS))
    for axes, here in panels:
        for look, (choice, label) in zip(drawing.looks(), CHOICES.items(), strict=False):
            _mean_line(axes, here[here["choice"] == choice], "discarded", label, **look)
        shares = np.linspace(0, 0.9, 10)
        axes.plot(shares, 1 / (1 - shares), color="0.4", linestyle="--", linewidth=1, marker="", label="1/(1 − p)")
        axes.set(yscale="log", xlabel="share discarded, p")
        axes.set_ylim(bottom=max(FLOOR, axes.get_ylim()[0]))
    return figure


FIGURES = [
    Figure("gradient_law", "Mean gradient against the batch size", gradients_caption, gradients, draw_gradients),
    Figure("gradient_exponent", "Exponent of the mean gradient", exponents_caption, exponents, draw_exponents),
    Figure("layer_noise_scale", "Noise scale by layer", noise_scales_caption, noise_scales, draw_noise_scales),
    Figure("loss_decrement", "Loss gained by one step", decrements_caption, decrements, draw_decrements),
    Figure(
        "discarding", "Discarding samples by their loss", discarded_caption, discarded, draw_discarded, optional=True
    ),
]
