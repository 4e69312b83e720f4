"""The studies of regression."""

from gapscope.drawing import numbers

from .records import claim
from .words import significance


def beyond_images() -> dict[str, str]:
    """Return what is said of the regression."""
    named = {"regression_error": "test_error_rises", "regression_sharpness": "sharpness_rises"}
    rows = {name: claim("regression", which) for name, which in named.items()}
    return {name: numbers.effect(row) for name, row in rows.items()} | {
        f"{name}_verdict": significance(row) for name, row in rows.items()
    }
