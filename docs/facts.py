"""Numbers and small tables that the pages quote, each read from committed records.

`TABLES` and `facts()` are what `fill_tables.py` fills in. Prose stays in the pages, except for the five findings of
README.md.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope.drawing import numbers
from gapscope.papers.oyedotun2022 import tables as paper
from gapscope.report import verdict_tables
from gapscope.report.gap import answer as said_of_gap

ROOT = Path(__file__).parents[1]
METRICS = ROOT / "metrics"
VERDICTS = verdict_tables.read_verdicts(METRICS / "claims")
EXCESS = "near_rank_{}_0.0001_excess"  # a column of runs.csv, by sample
FULL, MANIFOLD, TEST = "sharpness_full_{}_pct", "sharpness_random100_{}_pct", "sharpness_test_full_{}_pct"


def read(path: Path) -> Any:
    """Return a table. Any: pandas' stubs know no cell's type."""
    return pd.read_csv(path)


def runs(study: str) -> Any:
    """Return a study's runs, one row each."""
    return read(METRICS / study / "runs.csv")


def means(study: str) -> Any:
    """Return the mean over a study's seeds, one row per batch size."""
    return runs(study).groupby("batch_size").mean(numeric_only=True)


def claim(study: str, name: str) -> Any:
    """Return the row of a tested claim: effect, interval, verdict, corrected p."""
    return VERDICTS[(VERDICTS["study"] == study) & (VERDICTS["claim"] == name)].iloc[0]


def gap(study: str, batch_size: int, **where: str) -> Any:
    """Return the row of a study's gap at one batch size."""
    rows = read(METRICS / study / "gap.csv").query(f"batch_size == {batch_size}")
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows.iloc[0]


def with_interval(effect: float, low: float, high: float) -> str:
    """Return a change with its 95 % interval."""
    return f"{numbers.signed(effect)} ({numbers.interval(low, high)})"


def listed(values: Iterable[float], form: str = ".0f") -> str:
    """Return values as words: `1, 2 and 3`."""
    *first, last = (f"{value:{form}}" for value in values)
    return f"{', '.join(first)} and {last}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def printed(number: int, column: str) -> Any:
    """Return what a table of Oyedotun et al. 2022 prints in a column, by batch size."""
    return paper.printed(number).set_index("batch_size")[column]


# --- README.md -----------------------------------------------------------------------------------------------------


def findings() -> str:
    """Return the five findings of the README, one line each."""
    rises, longer = claim("table05", "test_error_rises"), claim("table05_longer", "gap_with_longer_training")
    equal = claim("table05_equal_updates", "gap_at_equal_updates")
    says = printed(5, "test_error_pct")
    count = {name: f"{value:,.0f}" for name, value in near_rank_06().items()}
    sharp = sharpness_of_f1()
    lines = [
        f"**The gap is there, but smaller than printed.** For LeNet-5 on Fashion-MNIST, from b = 128 to 8192, it is"
        f" {numbers.effect(rises)}: {significance(rises)}. The paper prints {numbers.signed(says[8192] - says[128])}.",
        f"**Longer training does not close it.** With three times the epochs, the gap is {numbers.effect(longer)}:"
        f" {significance(longer)}.",
        f"**A gap remains at equal numbers of updates.** From b = 128 to 2048 it is {numbers.effect(equal)}:"
        f" {significance(equal)}.",
        f"**Nearly all near-rank loss is a matter of shape.** For LeNet-5 on MNIST at b = 8192, {count['structural']}"
        f" of {count['full']} tiny singular values of the activations are zero by matrix shape alone. Of the"
        f" {count['excess']} others, {count['untrained']} are there before training.",
        f"**Large batches end in sharper minima.** For the network F1 on MNIST, sharpness grows by factors of"
        f" {sharp['f1_low']} to {sharp['f1_high']}; {sharp['f1_supported']} of eight measures are significant. The rise"
        f" of the test error is {significance(claim('keskar_table3', 'test_error_rises'))}.",
    ]
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def significance(row: Any) -> str:
    """Return a verdict in a reader's words."""
    words = {"supported": "significant", "contradicted": "significant in the opposite direction"}
    return f"{words.get(row['verdict'], 'not significant')}, corrected p = {row['p_corrected']:.2g}"


# --- docs/studies.md -----------------------------------------------------------------------------------------------


def committed() -> str:
    """Return the studies whose results are in git, with their seeds."""
    found = {path.parent.name: runs(path.parent.name)["seed"].nunique() for path in METRICS.glob("*/runs.csv")}
    found |= {
        path.parent.name: read(path)["seed"].nunique() for path in METRICS.glob("*/warmstart.csv") if len(read(path))
    }
    by_seeds = {
        n: sorted(study for study, seeds in found.items() if seeds == n) for n in sorted(set(found.values()))[::-1]
    }
    rows = [(f"{n}", ", ".join(f"`{study}`" for study in studies)) for n, studies in by_seeds.items()]
    return table(["seeds", "studies"], [*rows, ("no training", "`random_matrices`")])


# --- docs/training.md ----------------------------------------------------------------------------------------------


def speed() -> str:
    """Return what the benchmarks say of training."""
    text = (ROOT / "benchmarks/training.md").read_text(encoding="utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in text if "gapscope |" in line]
    ratios = {row[0]: float(row[-2].split()[0]) for row in cells}
    graphs = (ROOT / "benchmarks/graphs.md").read_text(encoding="utf-8")
    ((graph, plain),) = re.findall(r"\| lenet5 \| 128 \| (\S+) \| (\S+) \|", graphs)
    usual, peak = "LeNet-5, batch {}: usual / gapscope", "{}, channels_last: peak / gapscope"
    rows = [
        (
            f"LeNet-5 on one core, b = {size}, against the usual DataLoader loop",
            f"{ratios[usual.format(size)]:.1f} times",
        )
        for size in (128, 4096)
    ]
    rows += [
        (f"{name} on one core, share of the peak", f"{ratios[peak.format(name)]}") for name in ("ResNet-56", "VGG-16")
    ]
    rows += [("LeNet-5 on a GPU, b = 128, one update as a CUDA graph", f"{graph} ms")]
    rows += [("the same without CUDA graphs", f"{plain} ms")]
    return table(["what", "measured"], rows)


# --- docs/results.md -----------------------------------------------------------------------------------------------


def near_rank_06() -> dict[str, float]:
    """Return Table 6's counts at b = 8192."""
    large = means("table06").loc[8192]
    names = {part: f"near_rank_run_0.0001_{part}" for part in ("structural", "full", "excess")}
    return {part: large[name] for part, name in names.items()} | {"untrained": large[EXCESS.format("untrained")]}


def sharpness_of_f1() -> dict[str, str]:
    """Return what the eight measures of sharpness say of F1."""
    rows: Any = VERDICTS[(VERDICTS["study"] == "keskar_table3") & VERDICTS["claim"].str.contains("sharpness")]
    return {
        "f1_low": f"{rows['effect'].min():.0f}",
        "f1_high": f"{rows['effect'].max():,.0f}",
        "f1_supported": f"{(rows['verdict'] == 'supported').sum()}",
        "f1_error_p": f"{claim('keskar_table3', 'test_error_rises')['p_corrected']:.2f}",
    }


def gap_facts() -> dict[str, str]:
    """Return what is said of the gap, of linear networks and of runs that learn nothing."""
    off = (means("table10_linear")["test_error_pct"] - printed(10, "test_error_pct")).round().dropna().unique()
    both: Any = pd.concat([runs("table07"), runs("table08")])
    stuck = both[both["status"] == "learned nothing"]
    last = gap("table05_longer", 8192)
    levels = {f"largest_0{n}": claim(f"table0{n}", "test_error_rises")["levels"].split(", ")[-1] for n in (7, 8)}
    return levels | {
        "linear_off": listed(off) if len(off) > 1 else f"{off[0]:.0f}",
        "longer_epochs": f"{runs('table05_longer')['epochs'].max()}",
        "longer_gap": with_interval(last["gap"], last["gap_low"], last["gap_high"]),
        "longer_train_error": f"{runs('table05_longer')['train_error_pct'].max():.3f}",
        "longer_best": numbers.signed(claim("table05_longer", "best_epoch_with_longer_training")["effect"]),
        "longer_over_fitting": numbers.signed(claim("table05_longer", "over_fitting_with_longer_training")["effect"]),
        "stuck": f"{len(stuck)}",
        "without_runs": f"{len(both)}",
        "stuck_from": f"{stuck['batch_size'].min()}",
    }


def near_rank_facts() -> dict[str, str]:
    """Return what is said of near-rank loss, outside Table 5."""
    c1 = means("keskar_table3_cifar10_n5000")["near_rank_run_0.0001_full"]
    linear, ten = runs("table10_linear"), runs("table10").query("batch_size >= 512")
    added = (linear[EXCESS.format("run")] - linear[EXCESS.format("untrained")]).groupby(linear["batch_size"]).max()
    found = {f"{part}_06": f"{value:,.0f}" for part, value in near_rank_06().items()}
    return found | {
        "c1_small": f"{c1[25]:.0f}",
        "c1_large": f"{c1[500]:.0f}",
        "linear_added_128": f"{added[128]}",
        "linear_added_more": f"{added.drop(128).max()}",
        "linear_bound": f"{means('table09').loc[8192, EXCESS.format('run')]:,.0f}",
        "ten_added": f"{(ten[EXCESS.format('run')] - ten[EXCESS.format('untrained')]).abs().max()}",
    }


def dead_units() -> dict[str, str]:
    """Return what is said of dead units, in Tables 7 and 8."""
    seven, eight = runs("table07"), runs("table08").query("batch_size >= 2048 and status == 'ok'")
    learned: Any = pd.concat([seven, runs("table08")]).query("status == 'ok'")
    share = 100 * learned["near_rank_run_exact_zeros"] / learned[EXCESS.format("run")]
    whole = max(size for size, group in seven.groupby("batch_size") if (group["status"] == "ok").all())
    mean = seven[seven["batch_size"] == whole].mean(numeric_only=True)
    times = eight[EXCESS.format("run")] / eight[EXCESS.format("reference")]
    return {
        "dead_low": f"{share.min():.0f}",
        "dead_high": f"{share.max():.0f}",
        "dead_b": f"{whole:,}",
        "dead": f"{mean['near_rank_run_exact_zeros']:.0f}",
        "dead_excess": f"{mean[EXCESS.format('run')]:.0f}",
        "dead_untrained": f"{mean[EXCESS.format('untrained')]:.0f}",
        "reference_07": f"{mean[EXCESS.format('reference')]:.0f}",
        "own_128": f"{seven.query('batch_size == 128')[EXCESS.format('run')].mean():.0f}",
        "eight_low": f"{times.min():.2f}",
        "eight_high": f"{times.max():.2f}",
    }


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
        "random manifold": (MANIFOLD.format(0.001), "manifold_sharpness_rises"),
        "full space": (FULL.format(0.001), "sharpness_rises"),
    }
    rows = [
        (what, space, f"{means(study)[column].idxmax()}", significance(claim(study, name)))
        for study, what in named.items()
        for space, (column, name) in spaces.items()
    ]
    return table(["table", "space", "largest at b", "rise over all b"], rows)


def in_words() -> dict[str, str]:
    """Return verdicts that stand within sentences."""
    named = {
        "longer_gap": ("table05_longer", "gap_with_longer_training"),
        "longer_best": ("table05_longer", "best_epoch_with_longer_training"),
        "longer_over_fitting": ("table05_longer", "over_fitting_with_longer_training"),
        "width_error": ("width", "width_lowers_error"),
        "width_gap": ("width", "width_shrinks_gap"),
        "warm_order": ("keskar_warmstart_n5000", "warmstart_recovers"),
        "example_width": ("example_wide", "width_shrinks_gap"),
        "example_switching": ("example_switched", "switching_shrinks_gap"),
        "example_scaling": ("example_scaled", "scaled_rate_shrinks_gap"),
        "example_equal": ("example_equal_updates", "equal_updates_shrinks_gap"),
    }
    return {f"{name}_verdict": significance(claim(*where)) for name, where in named.items()}


def remedies() -> dict[str, str]:
    """Return what is said of each remedy of Table 5, and of warm starts."""
    here, there = (
        runs(study).query("batch_size == 128").set_index("seed")["test_error_pct"] for study in ("table11", "table05")
    )
    epochs = runs("table05_equal_updates").groupby("batch_size")["epochs"].max()
    switched = read(METRICS / "table11/gap.csv")["gap"]
    says = (printed(11, "test_error_pct") - printed(11, "test_error_pct")[128]).drop(128)
    rates = [
        json.loads(path.read_text(encoding="utf-8"))["lr_start"]
        for path in sorted((METRICS / "table05_tuned_rate/train").glob("*-b128-*.json"))
    ]
    wide = runs("width").groupby(["batch_size", "model"])["test_error_pct"].mean()[8192]
    warm = read(METRICS / "keskar_warmstart_n5000/warmstart.csv").groupby("start_epoch").mean(numeric_only=True)
    ends = warm["large_test_error_pct"]
    return {
        "rounding": f"{(here - there).abs().max():.2f}",
        "equal_epochs_2048": f"{epochs[2048]}",
        "equal_epochs_128": f"{epochs[128]}",
        "updates_11": f"{runs('table11').query('batch_size == 8192')['updates'].max():,}",
        "updates_05": f"{runs('table05').query('batch_size == 8192')['updates'].max():,}",
        "switched_low": f"{switched.min():.2f}",
        "switched_high": f"{switched.max():.2f}",
        "switched_printed_low": numbers.fixed(says.min(), 2),
        "switched_printed_high": numbers.fixed(says.max(), 2),
        "tuned_rates": listed(rates, "g"),
        "tuned_worse": f"{means('table05_tuned_rate').loc[128, 'test_error_pct'] - there.mean():.2f}",
        "wide_half": f"{wide['lenet5_w0.5']:.2f}",
        "wide_one": f"{wide['lenet5']:.2f}",
        "wide_twice": f"{wide['lenet5_w2']:.2f}",
        **{f"warm_{start}": f"{ends[start]:.2f}" for start in (20, 40, 60)},
        "warm_cold": f"{ends[0]:.2f}",
        "warm_small": f"{warm.loc[60, 'small_test_error_pct']:.2f}",
    }


def worked_example() -> dict[str, str]:
    """Return what is said of the worked example."""
    counts = VERDICTS[VERDICTS["study"] == "example"]["verdict"].value_counts()
    large, equal = gap("example", 4096), gap("example_equal_updates", 4096)
    low, high = numbers.fixed(equal["gap_low"], 2), numbers.fixed(equal["gap_high"], 2)
    small = [means(study).loc[16, "test_error_pct"] for study in ("example_equal_updates", "example")]
    (answer,) = said_of_gap(read(METRICS / "example/gap.csv"))
    return {
        "example_answer": answer.partition(": ")[2],
        "example_verdicts": ", ".join(
            f"{counts[verdict]} {verdict}" for verdict in ("supported", "contradicted", "undecided")
        ),
        "example_updates_large": f"{large['updates']:.0f}",
        "example_updates_small": f"{large['smallest_updates']:,.0f}",
        "example_train_error": f"{large['train_error_pct']:.2f}",
        "equal_updates": f"{equal['updates']:,.0f}",
        "equal_gap": f"{numbers.fixed(equal['gap'], 2)} ({low} to {high})",
        "equal_worse": f"{small[0] - small[1]:.2f}",
    }


def deep_networks() -> dict[str, str]:
    """Return what is said of VGG-16 and ResNet-56."""
    found = vgg_records()
    says, error = printed(1, "test_error_pct"), "test_error_pct_running"
    vgg = runs("table01_n5000").set_index("batch_size")
    both = runs("table03_epochs16").set_index("batch_size")
    resnet = both.loc[2048]
    return {
        "vgg_gap": f"+{found[2048][error] - found[128][error]:.2f}",
        "vgg_gap_printed": f"+{says[2048] - says[128]:.2f}",
        **{f"vgg_reestimated_{size}": f"{record['test_error_pct']:.2f}" for size, record in found.items()},
        **{
            f"vgg_{name}": f"{vgg.loc[2048, EXCESS.format(sample)]:,}"
            for name, sample in (("excess", "run"), ("reference", "reference"), ("untrained", "untrained"))
        },
        **{f"vgg_probe_{size}": f"{vgg.loc[size, EXCESS.format('probe')]}" for size in (64, 2048)},
        **{
            f"resnet_excess_{end}": f"{both.loc[size, EXCESS.format('run')]}"
            for end, size in (("small", 128), ("large", 2048))
        },
        **{
            f"resnet_{name}": f"{resnet[f'condition_number_{sample}']:,.0f}"
            for name, sample in (("condition", "run"), ("reference", "reference"), ("untrained", "untrained"))
        },
    }


def vgg_records() -> dict[int, dict[str, Any]]:
    """Return the records of the two full runs of Table 1."""
    folder = ROOT / "docs/records/table01"
    return {
        size: json.loads((folder / f"vgg16-cifar10-b{size}-s0.json").read_text(encoding="utf-8"))
        for size in (128, 2048)
    }


def table_5() -> dict[str, str]:
    """Return the counts of Table 5 at b = 8192, seed by seed."""
    large = runs("table05").query("batch_size == 8192").sort_values("seed")
    return {f"table05_{sample}": listed(large[EXCESS.format(sample)]) for sample in ("run", "reference", "untrained")}


def keskar() -> dict[str, str]:
    """Return what is said of Table 4 and Figure 4 of Keskar et al. 2017."""
    large = means("keskar_table3").loc[6000]
    figure = means("keskar_figure4")["test_error_pct"]
    return {  # 9.22 and 9.17: Table 4, as metrics/keskar_table3/paper.md repeats them
        "manifold_larger": f"{large[MANIFOLD.format(0.001)] / 9.22:.1f}",
        "manifold_smaller": f"{9.17 / large[MANIFOLD.format(0.0005)]:.1f}",
        "figure4_best": f"{figure.idxmin()}",
        "figure4_best_accuracy": f"{100 - figure.min():.2f}",
    }


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


def linear_train_errors() -> str:
    """Return Table 9's train errors at both ends."""
    measured, says = means("table09")["train_error_pct"], printed(9, "train_error_pct")
    rows = [(f"{size}", f"{says[size]:.2f}", f"{measured[size]:.2f}") for size in (128, 8192)]
    return table(["b", "train error %, printed", "measured"], rows)


def train_losses() -> str:
    """Return printed and measured train losses at b = 8192, with Keras's penalty."""
    rows = []
    for number in (5, 6, 9, 10):
        row = read(METRICS / f"table{number:02d}/paper.csv").set_index(["batch_size", "measured_column"])
        says, mean = row.loc[(8192, "train_loss_keras"), ["printed", "mean"]]
        rows.append((f"{number}", f"{says:.3g}", f"{mean:.3g}"))
    return table(["table", "train loss at b = 8192, printed", "measured, with Keras's penalty"], rows)


def losses_without_batch_norm() -> str:
    """Return printed train losses and measured cross-entropies of Table 7."""
    both = read(METRICS / "table07/paper.csv").set_index(["measured_column", "batch_size"]).loc["train_cross_entropy"]
    rows = [(f"{size}", f"{both['printed'][size]:g}", f"{both['mean'][size]:.3f}") for size in (1024, 4096)]
    n = runs("table07").query("batch_size == 4096 and status == 'ok'")["seed"].nunique()
    rows[1] = (*rows[1][:2], f"{rows[1][2]} (n = {n})")
    return table(["b", "train loss, printed", "train cross-entropy, measured"], rows)


def example_gaps() -> str:
    """Return the worked example's gap, with each remedy."""
    width = "net_w{}"
    named = {
        "as it is": gap("example", 4096),
        "switched to b = 16 for the second half of training": gap("example_switched", 4096),
        "rate scaled by the root of the batch size": gap("example_scaled", 4096),
        "layers of twice the width": gap("example_wide", 4096, model=width.format(2)),
        "layers of half the width": gap("example_wide", 4096, model=width.format(0.5)),
    }
    return table(["remedy", "gap, points"], [(name, f"{row['gap']:.2f}") for name, row in named.items()])


def vgg_full() -> str:
    """Return the two full runs of Table 1 beside the paper."""
    columns = {"test error %": "test_error_pct", "train error %": "train_error_pct"}
    columns |= {"train loss, with penalty": "train_loss", "test loss, with penalty": "test_loss"}
    rows, found = [], vgg_records()
    for what, column in columns.items():
        says, digits = printed(1, column), ".3f" if "loss" in column else "g"
        cells = [
            "" if pd.isna(of) else f"{of:{digits}}"
            for size in (128, 2048)
            for of in (says[size], found[size][f"{column}_running"])
        ]
        rows.append((what, *cells))
    return table(["", "b = 128, printed", "measured", "b = 2048, printed", "measured"], rows)


def vgg_small() -> str:
    """Return the runs of table01_n5000."""
    rows = runs("table01_n5000").to_dict("records")
    cells = [(f"{row['batch_size']}", f"{row['updates']:,}", f"{row['test_error_pct']:.1f}") for row in rows]
    return table(["b", "updates", "test error %"], cells)


def resnet() -> str:
    """Return the runs of table03_epochs16 beside the paper."""
    says, rows = printed(3, "test_error_pct"), runs("table03_epochs16").to_dict("records")
    cells = [
        (
            f"{row['batch_size']}",
            f"{row['updates']:,}",
            f"{row['train_error_pct']:.2f}",
            f"{row['test_error_pct']:.2f}",
            f"{says[row['batch_size']]}",
        )
        for row in rows
    ]
    return table(["b", "updates", "train error %", "test error %", "printed, 200 epochs"], cells)


def keskar_ends() -> str:
    """Return updates and weight norms of F1, seed by seed."""
    by_size = runs("keskar_table3").sort_values("seed").groupby("batch_size")
    rows = [(f"{size}", listed(of["updates"], ",.0f"), listed(of["weight_norm"])) for size, of in by_size]
    return table(["b", "updates (three seeds)", "norm of the weights (three seeds)"], rows)


def figure4() -> str:
    """Return the ends of Figure 4 of Keskar et al. 2017."""
    found = means("keskar_figure4")
    rows = [
        (
            f"{size}",
            f"{found.loc[size, 'updates']:,.0f}",
            f"{100 - found.loc[size, 'test_error_pct']:.2f}",
            *(numbers.number(found.loc[size, column.format(0.001)], 3) for column in (FULL, TEST)),
        )
        for size in (256, 6000)
    ]
    return table(["b", "updates", "test accuracy %", "sharpness %, training loss", "sharpness %, test loss"], rows)


def c1() -> str:
    """Return the ends of keskar_table3_cifar10_n5000."""
    found = means("keskar_table3_cifar10_n5000")
    rows = [
        (
            f"{size}",
            f"{row['updates']:,.0f}",
            f"{100 - row['test_error_pct']:.1f}",
            f"{row[FULL.format(0.001)]:,.0f}",
            f"{row[MANIFOLD.format(0.001)]:.1f}"
            if row[MANIFOLD.format(0.001)] < 100
            else f"{row[MANIFOLD.format(0.001)]:.0f}",
            f"{row['weight_norm']:.0f}",
        )
        for size, row in found.iterrows()
    ]
    heads = ["b", "updates", "test accuracy %", "sharpness %, full space", "random manifold", "norm of the weights"]
    return table(heads, rows)


TABLES: dict[str, Callable[[], str]] = {
    "findings": findings,
    "committed": committed,
    "speed": speed,
    "linear_train_errors": linear_train_errors,
    "train_losses": train_losses,
    "losses_without_batch_norm": losses_without_batch_norm,
    "example_gaps": example_gaps,
    "sharpness": sharpness,
    "vgg_full": vgg_full,
    "vgg_small": vgg_small,
    "resnet": resnet,
    "keskar_ends": keskar_ends,
    "figure4": figure4,
    "c1": c1,
}
GROUPS = (
    sharpness_of_f1, gap_facts, near_rank_facts, dead_units, in_words, remedies, worked_example, deep_networks, table_5,
    keskar, matrices,
)  # fmt: skip


def facts() -> dict[str, str]:
    """Return all numbers that stand within sentences, by name."""
    return {name: value for group in GROUPS for name, value in group().items()}
