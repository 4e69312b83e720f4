"""Numbers and small tables that the pages quote, each read from committed records.

`TABLES` and `facts()` are what `fill_tables.py` fills in. Prose stays in the pages, except for the five findings of
README.md.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gapscope.claims.wording import SIGNS
from gapscope.drawing import numbers
from gapscope.papers.oyedotun2022 import tables as paper
from gapscope.records.long import RUN, by_run, read_long
from gapscope.report import verdict_tables
from gapscope.report.gap import answer as said_of_gap
from gapscope.report.index import PRIMARY

ROOT = Path(__file__).parents[1]
METRICS = ROOT / "metrics"
VERDICTS = verdict_tables.read_verdicts(METRICS / "claims")
TEST = {"split": "test", "statistics": "reestimated"}
TRAIN = {"split": "train", "statistics": "reestimated"}
SAMPLES = ("run", "reference", "untrained")
READERS = {"threshold": 1e-4, "epsilon": 1e-3}  # the values that a reader is shown, of several


def read(path: Path) -> Any:
    """Return a table. Any: pandas' stubs know no cell's type."""
    return pd.read_csv(path)


def cells(study: str) -> Any:
    """Return a study's runs, one row each, with their status."""
    return read(METRICS / study / "cells.csv")


@functools.cache  # the records stay as they are while this runs
def long_table(study: str) -> Any:
    """Return a study's numbers, one row each."""
    return read_long(METRICS / study / "runs.csv")


def values(study: str, quantity: str, **where: Any) -> Any:
    """Return a quantity, one value per run, indexed by model, data set, batch size and seed."""
    return by_run(long_table(study), quantity, where)


def by_batch_size(table: Any) -> Any:
    """Return the mean of values by run over all runs of a batch size."""
    return table.groupby("batch_size").mean()


def means(study: str, quantity: str, **where: Any) -> Any:
    """Return a quantity's mean over a study's runs, by batch size."""
    return by_batch_size(values(study, quantity, **where))


def updates_and_errors(study: str, *where: Mapping[str, Any]) -> list[Any]:
    """Return the means of the updates, and of the error of each split, by batch size."""
    return [means(study, "updates"), *(means(study, "error_pct", **axes) for axes in where)]


def near_rank(study: str, part: str = "excess", sample: str = "run") -> Any:
    """Return a near-rank count at the threshold 1e-4, one value per run."""
    return values(study, f"near_rank_{part}", sample=sample, threshold=1e-4, relative=False)


def sharpness_means(study: str, space: str, epsilon: float = 1e-3, split: str = "train") -> Any:
    """Return a study's mean sharpness, by batch size."""
    return means(study, "sharpness_pct", split=split, space=space, epsilon=epsilon)


def only(table: Any, **where: Any) -> Any:
    """Return the part of values by run that has the given model, batch size or seed."""
    for level, value in where.items():
        table = table[table.index.get_level_values(level) == value]
    return table


def with_status(study: str, status: str, table: Any) -> Any:
    """Return the part of values by run whose runs ended with a status."""
    found = cells(study).query(f"status == {status!r}")
    return table[table.index.isin(found.set_index(list(RUN)).index)]


def shown(verdicts: Any) -> Any:
    """Return verdicts with one row per claim: of several thresholds or box sizes, those in `READERS`."""
    for axis, value in READERS.items():
        verdicts = verdicts[verdicts[axis].isna() | (verdicts[axis] == value)]
    return verdicts


def claim(study: str, name: str) -> Any:
    """Return the row of a tested claim: effect, interval, verdict, corrected p."""
    of_claim = VERDICTS[(VERDICTS["study"] == study) & (VERDICTS["claim"] == name) & (VERDICTS["family"] != "twin")]
    (row,) = shown(of_claim).to_dict("records")
    return row


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
    rises, trains = claim("table05", "test_error_rises"), claim("table05", "train_cross_entropy_rises")
    law, radius = claim("gao_law", "gradient_power_law"), claim("gao_radius", "eq17_is_the_radius")
    says = printed(5, "test_error_pct")
    count = {name: f"{value:,.0f}" for name, value in near_rank_06().items()}
    sharp = sharpness_of_f1()
    lines = [
        f"**The gap is there, but smaller than printed.** For LeNet-5 on Fashion-MNIST, from b = 128 to 8192, it is"
        f" {numbers.effect(rises)}: {significance(rises)}. The paper prints {numbers.signed(says[8192] - says[128])}.",
        f"**Large batches also fit the training images less well.** There the train cross-entropy changes by"
        f" {numbers.effect(trains)}: {significance(trains)}.",
        f"**Gradients do not vanish as 1/√n.** By Gao & Zhong, E|g| falls with the number of images as n^−0.5."
        f" For LeNet-5 on Fashion-MNIST, the exponent of the last doubling, up to all images, is"
        f" {numbers.effect(law).removesuffix(' exponent')}: corrected p = {law['p_corrected']:.2g}. Their |w/g| is"
        f" {float(radius['effect']):.1g} times the exact curvature radius: p = {radius['p']:.2g}, not corrected.",
        f"**Nearly all near-rank loss is a matter of shape.** For LeNet-5 on MNIST at b = 8192, {count['structural']}"
        f" of {count['full']} tiny singular values of the activations are zero by matrix shape alone. Of the"
        f" {count['excess']} others, {count['untrained']} are there before training.",
        f"**Large batches end in sharper minima.** For the network F1 on MNIST, sharpness grows by factors of"
        f" {sharp['f1_low']} to {sharp['f1_high']}; {sharp['f1_supported']} of eight measures are significant. The"
        f" change of the test error: {significance(claim('keskar_table3', 'test_error_rises'))}.",
    ]
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def significance(row: Any) -> str:
    """Return a verdict in a reader's words."""
    words = {"supported": "significant", "contradicted": "significant in the opposite direction"}
    verdict = str(row["verdict"])
    if verdict == "not comparable":
        return "not compared, since the runs are from different kinds of device"
    if verdict not in {*words, "undecided", "no effect"}:
        return verdict
    corrected, p = "p_corrected", "p"
    if verdict == "no effect":
        words[verdict], corrected, p = f"no effect as large as {row['margin']}", "p_none_corrected", "p_none"
    said = f"p = {row[p]:.2g}, not corrected" if pd.isna(row[corrected]) else f"corrected p = {row[corrected]:.2g}"
    return f"{words.get(verdict, 'not significant')}, {said}"


# --- docs/studies.md -----------------------------------------------------------------------------------------------


def committed() -> str:
    """Return the studies whose results are in git, with their seeds."""
    found = {path.parent.name: read(path)["seed"].nunique() for path in METRICS.glob("*/cells.csv")}
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
    counts = {part: near_rank("table06", part) for part in ("structural", "full", "excess")}
    counts["untrained"] = near_rank("table06", sample="untrained")
    return {part: only(count, batch_size=8192).mean() for part, count in counts.items()}


def sharpness_of_f1() -> dict[str, str]:
    """Return what the eight measures of sharpness say of F1."""
    rows: Any = VERDICTS[(VERDICTS["study"] == "keskar_table3") & VERDICTS["claim"].str.contains("sharpness")]
    return {
        "f1_low": f"{rows['effect'].min():.0f}",
        "f1_high": f"{rows['effect'].max():,.0f}",
        "f1_supported": f"{(rows['verdict'] == 'supported').sum()}",
        "f1_error": significance(claim("keskar_table3", "test_error_rises")),
    }


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
        (what, words, f"{sharpness_means(study, space).idxmax()}", significance(claim(study, name)))
        for study, what in named.items()
        for words, (space, name) in spaces.items()
    ]
    return table(["table", "space", "largest at b", "rise over all b"], rows)


def in_words() -> dict[str, str]:
    """Return verdicts that stand within sentences."""
    named = {
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
        only(values(study, "error_pct", **TEST), batch_size=128).droplevel("batch_size")
        for study in ("table11", "table05")
    )
    epochs = values("table05_equal_updates", "epochs").groupby("batch_size").max()
    updates = {study: only(values(study, "updates"), batch_size=8192).max() for study in ("table11", "table05")}
    switched = read(METRICS / "table11/gap.csv")["gap"]
    says = (printed(11, "test_error_pct") - printed(11, "test_error_pct")[128]).drop(128)
    rates = [
        json.loads(path.read_text(encoding="utf-8"))["lr_start"]
        for path in sorted((METRICS / "table05_tuned_rate/train").glob("*-b128-*.json"))
    ]
    wide = values("width", "error_pct", **TEST).groupby(["batch_size", "model"]).mean()[8192]
    warm = read_long(METRICS / "keskar_warmstart_n5000/warmstart.csv")
    warm = warm.query("quantity == 'error_pct' and split == 'test' and statistics == 'reestimated'")
    ends = warm.groupby(["phase", "start_epoch"])["value"].mean()
    return {
        "rounding": f"{(here - there).abs().max():.2f}",
        "equal_epochs_2048": f"{epochs[2048]:.0f}",
        "equal_epochs_128": f"{epochs[128]:.0f}",
        "updates_11": f"{updates['table11']:,.0f}",
        "updates_05": f"{updates['table05']:,.0f}",
        "switched_low": f"{switched.min():.2f}",
        "switched_high": f"{switched.max():.2f}",
        "switched_printed_low": numbers.fixed(says.min(), 2),
        "switched_printed_high": numbers.fixed(says.max(), 2),
        "tuned_rates": listed(rates, "g"),
        "tuned_worse": f"{means('table05_tuned_rate', 'error_pct', **TEST)[128] - there.mean():.2f}",
        "wide_half": f"{wide['lenet5_w0.5']:.2f}",
        "wide_one": f"{wide['lenet5']:.2f}",
        "wide_twice": f"{wide['lenet5_w2']:.2f}",
        **{f"warm_{start}": f"{ends['large', start]:.2f}" for start in (20, 40, 60)},
        "warm_cold": f"{ends['large', 0]:.2f}",
        "warm_small": f"{ends['small', 60]:.2f}",
    }


def worked_example() -> dict[str, str]:
    """Return what is said of the worked example."""
    primary = VERDICTS[(VERDICTS["study"] == "example") & VERDICTS["family"].isin(PRIMARY)]
    counts = primary["verdict"].value_counts()
    large, equal = gap("example", 4096), gap("example_equal_updates", 4096)
    low, high = numbers.fixed(equal["gap_low"], 2), numbers.fixed(equal["gap_high"], 2)
    small = [means(study, "error_pct", **TEST)[16] for study in ("example_equal_updates", "example")]
    (answer,) = said_of_gap(read(METRICS / "example/gap.csv"))
    return {
        "example_answer": answer,
        "example_verdicts": ", ".join(f"{counts[verdict]} {verdict}" for verdict in SIGNS if verdict in counts),
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
    vgg = {sample: by_batch_size(near_rank("table01_n5000", sample=sample)) for sample in (*SAMPLES, "probe")}
    resnet = by_batch_size(near_rank("table03_epochs16"))
    return {
        "vgg_gap": f"+{found[2048][error] - found[128][error]:.2f}",
        "vgg_gap_printed": f"+{says[2048] - says[128]:.2f}",
        **{f"vgg_reestimated_{size}": f"{record['test_error_pct']:.2f}" for size, record in found.items()},
        **{
            f"vgg_{name}": f"{vgg[sample][2048]:,.0f}"
            for name, sample in (("excess", "run"), ("reference", "reference"), ("untrained", "untrained"))
        },
        **{f"vgg_probe_{size}": f"{vgg['probe'][size]:.0f}" for size in (64, 2048)},
        **{f"resnet_excess_{end}": f"{resnet[size]:.0f}" for end, size in (("small", 128), ("large", 2048))},
        **{
            f"resnet_{name}": f"{means('table03_epochs16', 'condition_number', sample=sample)[2048]:,.0f}"
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
    large = {sample: only(near_rank("table05", sample=sample), batch_size=8192).sort_index() for sample in SAMPLES}
    return {f"table05_{sample}": listed(counts) for sample, counts in large.items()}


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


def layers() -> dict[str, str]:
    """Return what is said of gradients, steps and curvature by layer."""
    named = {
        "law_exponent": "gradient_power_law", "law_falls": "gradient_falls", "law_folded": "folded_normal_law",
        "discarded_small": "discarding_enlarges_gradient", "discarded_large": "large_losses_enlarge_gradient",
        "discarded_mix": "discarding_beyond_class_mix", "step_falls": "first_epoch_stride_falls",
        "area": "stride_area_falls", "path": "path_falls",
    }  # fmt: skip
    of = {
        name: claim("gao_quick" if name in ("discarded_mix", "step_falls", "area", "path") else "gao_law", which)
        for name, which in named.items()
    }
    of |= {
        "radius": claim("gao_radius", "eq17_is_the_radius"), "radius_order": claim("gao_radius", "eq17_orders_layers"),
        "radius_spread": claim("gao_radius", "radii_differ"),
        "warmup_spread": claim("gao_warmup", "warmup_evens_radii"),
        "order_trained": claim("gao_no_warmup", "eq17_orders_layers"),
    }  # fmt: skip
    errors = {
        split: means("gao_lenet5", "error_pct", **where)[32] for split, where in (("train", TRAIN), ("test", TEST))
    }
    effects = {name: numbers.effect(row).removesuffix(f" {row['effect_unit']}") for name, row in of.items()}
    said = {"order_verdict": of["order_trained"], "warmup_verdict": of["warmup_spread"]}
    effects |= {name: significance(row) for name, row in said.items()}
    return effects | {f"gao_{split}_error": f"{error:.2f}" for split, error in errors.items()}


def beyond_images() -> dict[str, str]:
    """Return what is said of the regression."""
    named = {"regression_error": "test_error_rises", "regression_sharpness": "sharpness_rises"}
    rows = {name: claim("regression", which) for name, which in named.items()}
    return {name: numbers.effect(row) for name, row in rows.items()} | {
        f"{name}_verdict": significance(row) for name, row in rows.items()
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
    updates, errors = updates_and_errors("table01_n5000", TEST)
    rows = [(f"{size}", f"{updates[size]:,.0f}", f"{errors[size]:.1f}") for size in updates.index]
    return table(["b", "updates", "test error %"], rows)


def resnet() -> str:
    """Return the runs of table03_epochs16 beside the paper."""
    study, says = "table03_epochs16", printed(3, "test_error_pct")
    updates, *errors = updates_and_errors(study, TRAIN, TEST)
    rows = [
        (f"{size}", f"{updates[size]:,.0f}", *(f"{error[size]:.2f}" for error in errors), f"{says[size]}")
        for size in updates.index
    ]
    return table(["b", "updates", "train error %", "test error %", "printed, 200 epochs"], rows)


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
    keskar, layers, beyond_images, matrices,
)  # fmt: skip


def facts() -> dict[str, str]:
    """Return all numbers that stand within sentences, by name."""
    return {name: value for group in GROUPS for name, value in group().items()}
