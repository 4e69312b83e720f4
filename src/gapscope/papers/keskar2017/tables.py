"""Tables 2 to 4 of Keskar et al. 2017, accuracy and sharpness at a small and at a large batch, beside the measured."""

from collections.abc import Hashable, Mapping
from importlib.resources import files
from typing import Any

import pandas as pd

from gapscope.errors import InputError
from gapscope.records.columns import sharpness_column

SIDES = {"sb": "small", "lb": "large"}


def printed(network: str) -> pd.DataFrame:
    """Return what is printed of a network, F1 to C4, a row a table, quantity and side.

    Of the columns printed, printed_std, column and note, `column` is the measured one set beside it, and `note` marks
    what is suspect. Accuracies are printed without a spread in the text at hand.
    """
    rows: list[dict[str, Any]] = []
    accuracy, sharpness = _of(network, "accuracy"), _of(network, "sharpness")
    for line in accuracy.to_dict("records"):
        for split in ("train", "test"):
            for side, name in SIDES.items():
                about = {"table": 2, "quantity": f"{split} accuracy (%)", "side": name}
                about["column"] = f"{split}_error_pct"
                rows.append({**about, "printed": line[f"{split}_{side}"], "printed_std": None, "note": None})
    for line in sharpness.to_dict("records"):
        space = "full space" if line["space"] == "full" else "random manifold, p = 100"
        quantity = f"sharpness (%), {space}, ε = {line['epsilon']:g}"
        column = sharpness_column("train", line["space"], line["epsilon"])
        for side, name in SIDES.items():
            about = {"table": line["table"], "quantity": quantity, "side": name, "column": column}
            values = {"printed": line[f"{side}_mean"], "printed_std": line[f"{side}_std"]}
            rows.append({**about, **values, "note": line["note"]})
    return pd.DataFrame(rows)


def beside(batches: pd.DataFrame) -> pd.DataFrame:
    """Return what is printed of each network with the measured mean, standard deviation and n.

    Args:
        batches: a row a network and batch size; the smallest and the largest one count.

    Raises:
        InputError: a network that the paper does not have.
    """
    rows: list[dict[str, Any]] = []
    for (model, dataset), found in batches.groupby(["model", "dataset"], sort=False):
        paper = printed(str(model).upper())
        if paper.empty:
            raise InputError(f"tables.keskar is for f1, f2, c1 to c4; Keskar et al. 2017 have no {model}")
        if len(found) < 2:
            raise InputError("tables.keskar needs two batch sizes, a small one and a large one: give -S batch_size=N")
        by_size = found.sort_values("batch_size")
        ends = {"small": by_size.iloc[0], "large": by_size.iloc[-1]}
        for line in paper.to_dict("records"):
            end = ends[line["side"]]
            mean, std = end.get(f"{line['column']}_mean"), end.get(f"{line['column']}_std")
            mean = 100 - mean if line["table"] == 2 and mean is not None else mean
            about = {"model": model, "dataset": dataset, "batch_size": end["batch_size"], "n": end["n"]}
            about["sharpness_images"] = end.get("sharpness_images")
            measured = {"mean": mean, "std": std}
            rows.append({**about, **{str(name): value for name, value in line.items()}, **measured})
    return pd.DataFrame(rows)


def markdown(rows: pd.DataFrame) -> str:
    """Return `beside` as Markdown, a table a network: a row a quantity, small against large batch, and their ratio.

    Notes on printed values stand below their table (†).
    """
    texts = []
    for (model, dataset), found in rows.groupby(["model", "dataset"], sort=False):
        sizes = found.drop_duplicates("side").set_index("side")["batch_size"]
        heads = [f"{model} on {dataset}", "paper: b = 256", "10 % of the data", "large / small"]
        heads += [f"measured: b = {sizes['small']}", f"b = {sizes['large']}", "large / small"]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for quantity, group in found.groupby("quantity", sort=False):
            sides = {line["side"]: line for line in group.to_dict("records")}
            cells = [cell for names in (("printed", "printed_std"), ("mean", "std")) for cell in _cells(sides, *names)]
            mark = " †" if group["note"].notna().any() else ""
            lines.append(f"| {quantity}{mark} | {' | '.join(cells)} |")
        counts = " to ".join(dict.fromkeys(str(n) for n in sorted(found["n"])))
        images = found["sharpness_images"].iloc[0]
        over = "" if pd.isna(images) else f", sharpness over {images:,.0f} training images, or all test images"
        rows_of = f"Mean ± standard deviation; paper: n = 5, all training images; measured: n = {counts}{over}."
        noted = found.dropna(subset=["note"]).drop_duplicates("quantity")
        notes = "".join(
            f"† {quantity}: {note}.\n\n" for quantity, note in zip(noted["quantity"], noted["note"], strict=True)
        )
        texts.append("\n".join(lines) + f"\n\n{notes}{rows_of}\n")
    return "\n".join(texts)


def _cells(sides: Mapping[str, Mapping[Hashable, Any]], mean: str, std: str) -> list[str]:
    values = [sides[name][mean] for name in SIDES.values()]
    spreads = [sides[name][std] for name in SIDES.values()]
    known = not any(pd.isna(value) for value in values)
    ratio = f"{values[1] / values[0]:.3g}" if known and values[0] and "sharpness" in sides["small"]["quantity"] else ""
    return [*map(_number, values, spreads), ratio]


def _of(network: str, table: str) -> pd.DataFrame:
    with (files("gapscope.papers.keskar2017") / f"{table}.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    return frame[frame["network"] == network]


def _number(mean: Any, std: Any) -> str:
    if pd.isna(mean):
        return "not measured"
    return f"{mean:.4g}" + ("" if pd.isna(std) else f" ± {std:.2g}")
