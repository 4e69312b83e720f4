"""Every figure that a study may have: the name of its table in plots/STUDY, how to read it, and what draws it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from gapscope.records.tables import read_table
from gapscope.report import curvature, figure_tables, figures, landscape, random_matrix_figures, warmstart
from gapscope.report.figures import Draw


@dataclass(frozen=True)
class Shown:
    """A figure's title, how it is read, and what draws it; contours have no points to be read."""

    title: str
    reading: str
    draw: Draw
    readable: bool = True


RUNS = "Points are runs, lines their means, bars reach from the smallest run to the largest; one seed has no bar."
HISTOGRAM = (
    "A line a number of columns n, on a logarithmic axis; the legend says how many matrices, and what lies beyond."
)
SHOWN = {
    "gap": Shown(
        "Error and loss",
        f"Against batch size. {RUNS} Dotted lines are the paper's printed values. Its loss seems to hold a weight "
        "penalty, so it is to be compared with the sum, and not with the cross-entropy alone.",
        figures.draw_gap,
    ),
    "near_rank": Shown(
        "Near-rank loss",
        "A row a threshold. Left, as the paper counts: structural values are zero by the shape of the unfolding alone, "
        "whatever training did. Middle, the excess, values that could have been large and are not, beside controls in "
        f"which training at that batch size had no part. Right, what remains for it to explain. {RUNS} A ring marks a "
        "count that the error bounds leave open.",
        figures.draw_near_rank,
    ),
    "spectra": Shown(
        "Spectra of the activations",
        "Singular values of each layer's unfoldings over b images, a line a batch size, of the first seed; of a "
        f"network with more than {figure_tables.LAYERS} layers so many, evenly spaced. Values "
        "below the dashed lines are what the counts above count; in the grey the solver's error is larger than "
        "the value.",
        figures.draw_spectra,
    ),
    "sharpness": Shown(
        "Accuracy and sharpness",
        "Test accuracy, and how far the loss rises at most in a small box around the weights, in per cent of 1 + loss "
        f"(Keskar et al. 2017). {RUNS}",
        figures.draw_sharpness,
    ),
    "curves": Shown(
        "Training curves",
        "A line a run, with batch norm's running statistics as training has them: at large batches these lag, which "
        "alone raises the test error; the tables have statistics estimated anew.",
        figures.draw_curves,
    ),
    "curvature": Shown(
        "Curvature", f"Of the training cross-entropy at the solutions. {RUNS}", curvature.draw_curvature
    ),
    "density": Shown(
        "Spectral density of the Hessian",
        "Which share of the eigenvalues lies where, on a logarithmic axis; each is spread by a hundredth of the span, "
        "so that a single eigenvalue shows as a hump.",
        curvature.draw_density,
    ),
    "noise_scale": Shown(
        "Gradient noise scale",
        "The batch size above which, by this estimate, larger batches save few steps (McCandlish et al. 2018), along a "
        "short training, a line a seed; the band is the 95 % interval.",
        curvature.draw_noise_scale,
    ),
    "landscape_line": Shown(
        "From one solution to the other",
        "Loss and accuracy on the straight line through the small-batch solution (α = 0) and the large-batch one "
        "(α = 1), a line a seed (Keskar et al. 2017, Figure 3).",
        landscape.draw_line,
    ),
    "landscape_directions": Shown(
        "Along single directions",
        "Loss and error around each solution, along random filter-normalised directions and along the Hessian's top "
        "eigenvectors; a line a direction and seed.",
        landscape.draw_directions,
    ),
    "landscape_plane": Shown(
        "Over two random directions",
        "Contours of the training loss around each solution, at the same levels in both panels; of one seed.",
        landscape.draw_plane,
        readable=False,
    ),
    "landscape_rises": Shown(
        "Rise at one distance",
        "How far the loss rises along each of the top eigenvectors and along random directions of the same length; "
        "small marks are the rise of a quadratic with these eigenvalues.",
        landscape.draw_rises,
    ),
    "warmstart": Shown(
        "Warm starts",
        "Large-batch training from the weights of a small-batch run after each of its epochs: what it starts from, and "
        "where it ends. Points are seeds, lines their means (Keskar et al. 2017, Figure 5).",
        warmstart.draw_warmstart,
    ),
    "figure_a1": Shown("Figure A1: Gaussian entries", HISTOGRAM, random_matrix_figures.draw_distributions),
    "figure_a2": Shown("Figure A2: uniform entries", HISTOGRAM, random_matrix_figures.draw_distributions),
    "figure_a3": Shown("Figure A3: log-normal entries", HISTOGRAM, random_matrix_figures.draw_distributions),
    "proposition_1": Shown(
        "Proposition 1",
        "Where the singular values of a large matrix concentrate, beside Marchenko and Pastur's density; dashed, its "
        "edges.",
        random_matrix_figures.draw_marchenko_pastur,
    ),
    "proposition_2": Shown(
        "Proposition 2",
        "Mean extreme singular values beside the bounds (dashed), and how far within them the Gaussian ones keep; bars "
        "are standard errors.",
        random_matrix_figures.draw_extremes,
    ),
    "proposition_3": Shown(
        "Proposition 3",
        "Relative change of a linear problem's solution, beside equation 5's bound and a tight one. In the grey there "
        "are fewer samples than unknowns; points are medians, bands reach from the smallest to the largest.",
        random_matrix_figures.draw_perturbation,
    ),
}


def of_study(folder: Path) -> Iterator[tuple[str, Shown, pd.DataFrame]]:
    """Yield name, entry and table of each figure that a folder plots/STUDY has, in the order of `SHOWN`."""
    for name, shown in SHOWN.items():
        table = folder / f"{name}.csv"
        if table.exists():
            draw = partial(figures.draw_spectra, thresholds=thresholds(folder)) if name == "spectra" else shown.draw
            yield name, Shown(shown.title, shown.reading, draw, shown.readable), read_table(table)


def thresholds(folder: Path) -> tuple[float, ...]:
    """Return the absolute thresholds of a study: those that its near-rank figure has panels of."""
    if not (folder / "near_rank.csv").exists():
        return ()
    panels = read_table(folder / "near_rank.csv")["panel"]
    found = dict.fromkeys(str(panel).partition(":")[0] for panel in panels)
    return tuple(float(value) for value in found if "relative" not in value)
