"""Figure of the gradient noise scale along a short training."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing

from gapscope.drawing import axes as drawing
from gapscope.drawing.figure import Figure
from gapscope.measures.study import Study


def table(study: Study) -> pd.DataFrame:
    """Return the noise scale and its interval at each epoch of each seed's short training."""
    rows = study.table("noise_scale")
    rows = rows[rows["quantity"] == "noise_scale"]
    return rows[["model", "dataset", "seed", "epoch", "value", "low", "high"]].rename(columns={"value": "noise_scale"})


def caption(rows: pd.DataFrame) -> str:
    """Return how to read the figure."""
    made = (
        "By this estimate, batches larger than this save few steps (McCandlish et al. 2018). One line per seed, along a"
        " short training; the band is the 95 % interval."
    )
    if np.isfinite(rows["noise_scale"]).all():
        return made
    return f"{made} A triangle is the lower end of an interval without an upper end."


def draw_noise_scale(rows: pd.DataFrame) -> Drawing:
    """Draw the predicted critical batch size along a short training, with its 95 % interval; one line per seed."""
    pairs = drawing.pairs_of(rows)
    figure, grid = plt.subplots(1, len(pairs), figsize=drawing.size(len(pairs), 1, 6.4, 3.9), squeeze=False)
    for axes, pair in zip(grid[0], pairs, strict=True):
        here = drawing.of_pair(rows, pair)
        bounds = here[["noise_scale", "high"]].to_numpy(dtype=float)
        ceiling = 10 * max(bounds[np.isfinite(bounds)], default=1.0)
        for (seed, run), look in zip(here.groupby("seed"), cycle(plt.rcParams["axes.prop_cycle"])):
            known = np.isfinite(run["noise_scale"])
            axes.plot(run["epoch"][known], run["noise_scale"][known], label=f"seed {seed}", **look)
            # |G|^2 cannot be told from zero: only a lower limit is known
            style = {"color": look["color"], "fillstyle": "none", "markersize": 9}
            name = f"seed {seed}: lower end of the interval"
            axes.plot(run["epoch"][~known], run["low"][~known], "^", **style, gid=name)
            top = run["high"].clip(upper=ceiling)
            axes.fill_between(run["epoch"], run["low"], top, color=look["color"], alpha=0.15)
        axes.set_ylim(top=ceiling)
        if axes.get_ylim()[0] <= 0:  # the margin of a linear axis, for which a logarithmic one has no place
            known_ends = here[["noise_scale", "low"]].to_numpy(dtype=float)
            axes.set_ylim(bottom=0.5 * min(known_ends[np.isfinite(known_ends) & (known_ends > 0)], default=1.0))
        axes.set(yscale="log", xlabel="epochs of training")
        axes.set_title(f"critical batch size (images)\n{drawing.pair_title(pair, here)}")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle("Critical batch size by the gradient noise scale")
    return figure


FIGURES = [Figure("noise_scale", "Gradient noise scale", caption, table, draw_noise_scale)]
