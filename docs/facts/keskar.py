"""Keskar et al. 2017."""

from typing import Any

from gapscope.drawing import numbers

from .records import TEST, VERDICTS, claim, means, only, sharpness_means, updates_and_errors, values
from .words import listed, significance, table


def sharpness_of_f1() -> dict[str, str]:
    """Return what the eight measures of sharpness say of F1."""
    rows: Any = VERDICTS[(VERDICTS["study"] == "keskar_table3") & VERDICTS["claim"].str.contains("sharpness")]
    return {
        "f1_low": f"{rows['effect'].min():.0f}",
        "f1_high": f"{rows['effect'].max():,.0f}",
        "f1_supported": f"{(rows['verdict'] == 'supported').sum()}",
        "f1_error": significance(claim("keskar_table3", "test_error_rises")),
    }


def keskar() -> dict[str, str]:
    """Return what is said of Table 4 and Figure 4 of Keskar et al. 2017."""
    whole, half = (sharpness_means("keskar_table3", "manifold", epsilon)[6000] for epsilon in (1e-3, 5e-4))
    figure = means("keskar_figure4", "error_pct", **TEST)
    return {  # 9.22 and 9.17: Table 4, as metrics/keskar_table3/paper.md repeats them
        "manifold_larger": f"{whole / 9.22:.1f}",
        "manifold_smaller": f"{9.17 / half:.1f}",
        "figure4_best": f"{figure.idxmin()}",
        "figure4_best_accuracy": f"{100 - figure.min():.2f}",
    }


def keskar_ends() -> str:
    """Return updates and weight norms of F1, seed by seed."""
    updates, norms = (values("keskar_table3", name).sort_index() for name in ("updates", "weight_norm"))
    rows = [
        (f"{size}", listed(only(updates, batch_size=size), ",.0f"), listed(only(norms, batch_size=size)))
        for size in (256, 6000)
    ]
    return table(["b", "updates (three seeds)", "norm of the weights (three seeds)"], rows)


def figure4() -> str:
    """Return the ends of Figure 4 of Keskar et al. 2017."""
    study = "keskar_figure4"
    updates, errors = updates_and_errors(study, TEST)
    sharps = [sharpness_means(study, "full", split=split) for split in ("train", "test")]
    rows = [
        (
            f"{size}",
            f"{updates[size]:,.0f}",
            f"{100 - errors[size]:.2f}",
            *(numbers.number(of[size], 3) for of in sharps),
        )
        for size in (256, 6000)
    ]
    return table(["b", "updates", "test accuracy %", "sharpness %, training loss", "sharpness %, test loss"], rows)


def c1() -> str:
    """Return the ends of keskar_table3_cifar10_n5000."""
    study = "keskar_table3_cifar10_n5000"
    updates, errors = updates_and_errors(study, TEST)
    full, manifold = (sharpness_means(study, space) for space in ("full", "manifold"))
    norms = means(study, "weight_norm")
    rows = [
        (
            f"{size}",
            f"{updates[size]:,.0f}",
            f"{100 - errors[size]:.1f}",
            f"{full[size]:,.0f}",
            f"{manifold[size]:{'.1f' if manifold[size] < 100 else '.0f'}}",
            f"{norms[size]:.0f}",
        )
        for size in updates.index
    ]
    heads = ["b", "updates", "test accuracy %", "sharpness %, full space", "random manifold", "norm of the weights"]
    return table(heads, rows)
