"""Remedies, warm starts, and the worked example."""

import json

from gapscope.claims.wording import SIGNS
from gapscope.drawing import numbers
from gapscope.records.long import read_long
from gapscope.report.gap import answer as said_of_gap
from gapscope.report.index import PRIMARY

from .records import METRICS, TEST, VERDICTS, claim, gap, means, only, printed, read, values
from .words import listed, significance, table


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
