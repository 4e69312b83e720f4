"""Oyedotun et al. 2022: LeNet-5, Tables 5 to 11, and random matrices."""

import json
import re
from typing import Any

import pandas as pd

from gapscope.claims.wording import SIGNS, evidence
from gapscope.drawing import numbers

from .records import (
    METRICS,
    SAMPLES,
    TEST,
    TRAIN,
    by_batch_size,
    cells,
    claim,
    gap,
    means,
    near_rank,
    only,
    printed,
    read,
    sharpness_means,
    values,
    with_status,
)
from .words import listed, table, with_interval


def near_rank_06() -> dict[str, float]:
    """Return Table 6's counts at b = 8192."""
    counts = {part: near_rank("table06", part) for part in ("structural", "full", "excess")}
    counts["untrained"] = near_rank("table06", sample="untrained")
    return {part: only(count, batch_size=8192).mean() for part, count in counts.items()}


def gap_facts() -> dict[str, str]:
    """Return what is said of the gap, of linear networks and of runs that learn nothing."""
    off = (means("table10_linear", "error_pct", **TEST) - printed(10, "test_error_pct")).round().dropna().unique()
    both: Any = pd.concat([cells("table07"), cells("table08")])
    stuck = both[both["status"] == "learned nothing"]
    last = gap("table05_longer", 8192)
    levels = {f"largest_0{n}": claim(f"table0{n}", "test_error_rises")["levels"].split(", ")[-1] for n in (7, 8)}
    return levels | {
        "linear_off": listed(off) if len(off) > 1 else f"{off[0]:.0f}",
        "longer_epochs": f"{values('table05_longer', 'epochs').max():.0f}",
        "longer_gap": with_interval(last["gap"], last["gap_low"], last["gap_high"]),
        "longer_train_error": f"{values('table05_longer', 'error_pct', **TRAIN).max():.3f}",
        "longer_best": numbers.signed(claim("table05_longer", "best_epoch_with_longer_training")["effect"]),
        "longer_over_fitting": numbers.signed(claim("table05_longer", "over_fitting_with_longer_training")["effect"]),
        "stuck": f"{len(stuck)}",
        "without_runs": f"{len(both)}",
        "stuck_from": f"{stuck['batch_size'].min()}",
    }


def near_rank_facts() -> dict[str, str]:
    """Return what is said of near-rank loss, outside Table 5."""
    c1 = by_batch_size(near_rank("keskar_table3_cifar10_n5000", "full"))
    added = {study: near_rank(study) - near_rank(study, sample="untrained") for study in ("table10", "table10_linear")}
    linear = added["table10_linear"].groupby("batch_size").max()
    ten = added["table10"].groupby("batch_size").agg(lambda of: of.abs().max())
    found = {f"{part}_06": f"{value:,.0f}" for part, value in near_rank_06().items()}
    return found | {
        "c1_small": f"{c1[25]:.0f}",
        "c1_large": f"{c1[500]:.0f}",
        "linear_added_128": f"{linear[128]:.0f}",
        "linear_added_more": f"{linear.drop(128).max():.0f}",
        "linear_bound": f"{only(near_rank('table09'), batch_size=8192).mean():,.0f}",
        "ten_added": f"{ten[ten.index >= 512].max():.0f}",
    }


def dead_units() -> dict[str, str]:
    """Return what is said of dead units, in Tables 7 and 8."""
    shares = []
    for study in ("table07", "table08"):
        zeros = values(study, "exact_zeros", sample="run")
        shares.append(with_status(study, "ok", 100 * zeros / near_rank(study)))
    share: Any = pd.concat(shares)
    whole = max(size for size, group in cells("table07").groupby("batch_size") if (group["status"] == "ok").all())
    mean = {sample: only(near_rank("table07", sample=sample), batch_size=whole).mean() for sample in SAMPLES}
    dead = only(values("table07", "exact_zeros", sample="run"), batch_size=whole)
    times = with_status("table08", "ok", near_rank("table08") / near_rank("table08", sample="reference"))
    times = times[times.index.get_level_values("batch_size") >= 2048]
    return {
        "dead_low": f"{share.min():.0f}",
        "dead_high": f"{share.max():.0f}",
        "dead_b": f"{whole:,}",
        "dead": f"{dead.mean():.0f}",
        "dead_excess": f"{mean['run']:.0f}",
        "dead_untrained": f"{mean['untrained']:.0f}",
        "reference_07": f"{mean['reference']:.0f}",
        "own_128": f"{only(near_rank('table07'), batch_size=128).mean():.0f}",
        "eight_low": f"{times.min():.2f}",
        "eight_high": f"{times.max():.2f}",
    }


def table_5() -> dict[str, str]:
    """Return the counts of Table 5 at b = 8192, seed by seed."""
    large = {sample: only(near_rank("table05", sample=sample), batch_size=8192).sort_index() for sample in SAMPLES}
    return {f"table05_{sample}": listed(counts) for sample, counts in large.items()}


def linear_train_errors() -> str:
    """Return Table 9's train errors at both ends."""
    measured, says = means("table09", "error_pct", **TRAIN), printed(9, "train_error_pct")
    rows = [(f"{size}", f"{says[size]:.2f}", f"{measured[size]:.2f}") for size in (128, 8192)]
    return table(["b", "train error %, printed", "measured"], rows)


def train_losses() -> str:
    """Return printed and measured train losses at b = 8192, with Keras's penalty."""
    rows = []
    for number in (5, 6, 9, 10):
        row = read(METRICS / f"table{number:02d}/paper.csv").set_index(["batch_size", "quantity", "split"])
        says, mean = row.loc[(8192, "loss_keras", "train"), ["printed", "mean"]]
        rows.append((f"{number}", f"{says:.3g}", f"{mean:.3g}"))
    return table(["table", "train loss at b = 8192, printed", "measured, with Keras's penalty"], rows)


def losses_without_batch_norm() -> str:
    """Return printed train losses and measured cross-entropies of Table 7."""
    both = read(METRICS / "table07/paper.csv").query("quantity == 'cross_entropy' and split == 'train'")
    both = both.set_index("batch_size")
    rows = [(f"{size}", f"{both['printed'][size]:g}", f"{both['mean'][size]:.3f}") for size in (1024, 4096)]
    n = cells("table07").query("batch_size == 4096 and status == 'ok'")["seed"].nunique()
    rows[1] = (*rows[1][:2], f"{rows[1][2]} (n = {n})")
    return table(["b", "train loss, printed", "train cross-entropy, measured"], rows)


def sharpness() -> str:
    """Return where sharpness is largest, and whether it rises over all batch sizes."""
    named = {
        "table05": "5: Fashion-MNIST",
        "table06": "6: MNIST",
        "table09": "9: Fashion-MNIST, linear units",
        "table10": "10: MNIST, linear units",
        "table10_linear": "10: MNIST, fully linear",
    }
    spaces = {
        "random manifold": ("manifold", "manifold_sharpness_rises"),
        "full space": ("full", "sharpness_rises"),
    }
    rows = [
        (what, words, f"{sharpness_means(study, space).idxmax()}", *_decided(claim(study, name)))
        for study, what in named.items()
        for words, (space, name) in spaces.items()
    ]
    return table(["table", "space", "largest at b", "rise over all b", "effect, slope, p and n"], rows)


def _decided(row: Any) -> tuple[str, str]:
    return f"{SIGNS[row['verdict']]} {row['verdict']}", evidence(row)


def matrices() -> dict[str, str]:
    """Return what is said of random matrices."""
    found = json.loads((METRICS / "random_matrices/summary.json").read_text(encoding="utf-8"))
    cells, text = found["printed_cells"], (METRICS / "random_matrices/paper.md").read_text(encoding="utf-8")
    ((says, mean, error),) = re.findall(
        r"\| gaussian \| 1000 x 10 \| (\S+) \| (\S+) ± (\S+) \| \S+ \| \*\*off\*\* \|", text
    )
    return {
        "cells_agree": f"{cells['agrees']}",
        "cells_all": f"{sum(cells.values())}",
        "cells_off": f"{cells['off']}",
        "cell_printed": says,
        "cell_measured": f"{float(mean):.3f} ± {float(error):.3f}",
        "eq5_above": f"{found['eq5_b_at_least_h']['of']}",
        "eq5_below": f"{found['eq5_b_below_h']['of']}",
    }
