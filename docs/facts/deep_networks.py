"""Oyedotun et al. 2022: VGG-16 and ResNet-56, Tables 1 to 4."""

import json
from typing import Any

import pandas as pd

from .records import ROOT, SAMPLES, TEST, TRAIN, by_batch_size, means, near_rank, printed, updates_and_errors
from .words import table


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
