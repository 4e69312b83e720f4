"""The studies of regression."""

import numpy as np

from gapscope.data import made_up
from gapscope.drawing import numbers

from .records import METRICS, claim, read
from .words import significance


def beyond_images() -> dict[str, str]:
    """Return what is said of the regression."""
    named = {"regression_error": "test_error_rises", "regression_sharpness": "sharpness_rises"}
    rows = {name: claim("regression", which) for name, which in named.items()}
    return {name: numbers.effect(row) for name, row in rows.items()} | {
        f"{name}_verdict": significance(row) for name, row in rows.items()
    }


def noise_scale_known() -> str:
    """Return each seed's noise scale of the made-up regression before training, beside the closed form."""
    rows = read(METRICS / "regression_made_up" / "noise_scale.csv")
    rows = rows[(rows["quantity"] == "noise_scale") & (rows["epoch"] == 0)]
    known = made_up.noise_scale(np.zeros(made_up.FEATURES))  # the weights before training
    lines = ["| seed | measured | 95 % interval | closed form |", "|---|---|---|---|"]
    for row in rows.to_dict("records"):
        bounds = f"{row['low']:.2f} to {row['high']:.2f}"
        lines.append(f"| {row['seed']} | {row['value']:.2f} | {bounds} | {known:.2f} |")
    return "\n".join(lines)
