"""Tables 2 to 4 of Keskar et al. 2017, accuracy and sharpness at a small and at a large batch, beside the measured."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from gapscope.drawing.numbers import starts as counted_starts
from gapscope.errors import InputError
from gapscope.papers.paper import counts, measured, of_pair, table_file

SIDES = {"sb": "small", "lb": "large"}
AXES = ("split", "statistics", "space", "dimension", "epsilon")  # of the quantities set beside it
NOTES = ("sharpness_images", "sharpness_starts")  # what the sharpness says of each run beside its numbers
DIMENSION = 100  # of Table 4's random manifolds
SPACES: dict[str, dict[str, Any]] = {
    "full": {"space": "full"},
    "random100": {"space": "manifold", "dimension": DIMENSION},
}


def printed(network: str) -> pd.DataFrame:
    """Return what is printed of a network, F1 to C4, one row per table, quantity and side.

    Returns:
        Columns table, name (for a reader), side (small, large), quantity and `AXES` of the measured one set beside it,
        printed, printed_std, and note, which marks what is suspect. Accuracies have no spread in the text at hand.
    """
    rows: list[dict[str, Any]] = []
    for line in _of(network, "accuracy").to_dict("records"):
        for split in ("train", "test"):
            about = {"table": 2, "name": f"{split} accuracy (%)", "quantity": "error_pct", "split": split}
            about["statistics"] = "reestimated"
            rows += [
                {**about, "side": name, "printed": line[f"{split}_{side}"], "printed_std": None, "note": None}
                for side, name in SIDES.items()
            ]
    for line in _of(network, "sharpness").to_dict("records"):
        space = "full space" if line["space"] == "full" else f"random manifold, p = {DIMENSION}"
        about = {"table": line["table"], "name": f"sharpness (%), {space}, ε = {line['epsilon']:g}"}
        about |= {"quantity": "sharpness_pct", "split": "train", **SPACES[line["space"]], "epsilon": line["epsilon"]}
        rows += [
            {**about, "side": name, "printed": line[f"{side}_mean"], "printed_std": line[f"{side}_std"]}
            | {"note": line["note"]}
            for side, name in SIDES.items()
        ]
    return pd.DataFrame(rows)


def beside(_: str, batches: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return what is printed of each network of a study with the measured mean, standard deviation and n.

    Args:
        batches: the study's `batch_sizes.csv`; the smallest and the largest batch size count.
        cells: the study's `cells.csv`.

    Raises:
        InputError: a network that the paper does not have, or one batch size alone.
    """
    rows: list[dict[str, Any]] = []
    runs = counts(cells)
    for (model, dataset), group in runs.groupby(["model", "dataset"], sort=False):
        paper = printed(str(model).upper())
        if paper.empty:
            raise InputError(f"Keskar et al. 2017 print f1, f2 and c1 to c4, and no {model}")
        own, found = group.set_index("batch_size")["n"], of_pair(batches, model, dataset)
        if len(own) < 2:
            raise InputError("the tables of Keskar et al. 2017 need a small and a large batch: give -S batch_size=N")
        sizes = {"small": own.index.min(), "large": own.index.max()}
        for line in paper.to_dict("records"):
            size = sizes[line["side"]]
            about = {"model": model, "dataset": dataset, "batch_size": size, "n": own[size]}
            for name in NOTES:
                about[name] = _note(cells, name, model, dataset, size)
            rows.append({**about, **{str(key): value for key, value in line.items()}, **_measured(line, found, size)})
    return pd.DataFrame(rows)


def markdown(rows: pd.DataFrame) -> str:
    """Return `beside` as Markdown, one table per network: a row per quantity, small against large batch, their ratio.

    Notes on printed values stand below their table (†).
    """
    texts = []
    for (model, dataset), found in rows.groupby(["model", "dataset"], sort=False):
        of = found.drop_duplicates("side").set_index("side")
        small, large = (f"b = {of['batch_size'][side]} (n = {of['n'][side]})" for side in ("small", "large"))
        heads = [f"{model} on {dataset}", "paper: b = 256", "10 % of the data", "large / small"]
        heads += [f"measured: {small}", large, "large / small"]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for name, group in found.groupby("name", sort=False):
            sides = {line["side"]: line for line in group.to_dict("records")}
            cells = [cell for pair in (("printed", "printed_std"), ("mean", "std")) for cell in _cells(sides, *pair)]
            mark = " †" if group["note"].notna().any() else ""
            lines.append(f"| {name}{mark} | {' | '.join(cells)} |")
        texts.append("\n".join(lines) + f"\n\n{_notes(found)}{_sizes(found)}\n")
    return "\n".join(texts)


def _measured(line: Mapping[Hashable, Any], found: pd.DataFrame, size: int) -> dict[str, Any]:
    where = {axis: line[axis] for axis in AXES if pd.notna(line.get(axis))}
    own = found[found["quantity"] == line["quantity"]]
    if "statistics" in own and "statistics" not in where and (others := own["statistics"] != "batch").any():
        own = own[others]  # re-estimated statistics of batch norm, where a study has both
    table = measured(own, line["quantity"], where)
    if size not in table.index:
        return {"mean": None, "std": None}
    mean, std = table["mean"][size], table["std"][size]
    return {"mean": 100 - mean if line["table"] == 2 else mean, "std": std}  # Table 2 prints accuracies


def _note(cells: pd.DataFrame, name: str, model: Any, dataset: Any, size: int) -> Any:
    own = of_pair(cells, model, dataset)
    return own.loc[own["batch_size"] == size, name].max() if name in cells else None


def _notes(found: pd.DataFrame) -> str:
    noted = found.dropna(subset=["note"]).drop_duplicates("name")
    return "".join(f"† {name}: {note}.\n\n" for name, note in zip(noted["name"], noted["note"], strict=True))


def _sizes(found: pd.DataFrame) -> str:
    images, starts = (found[name].iloc[0] for name in NOTES)
    over = "" if pd.isna(images) else f"; measured: sharpness over {images:,.0f} training images, or all test images"
    bound = "" if pd.isna(starts) else f". Measured sharpness: {counted_starts([int(starts)])}, lower bound"
    return f"Mean ± standard deviation; paper: n = 5, all training images{over}{bound}."


def _cells(sides: Mapping[str, Mapping[Hashable, Any]], mean: str, std: str) -> list[str]:
    values = [sides[name][mean] for name in SIDES.values()]
    spreads = [sides[name][std] for name in SIDES.values()]
    known = not any(pd.isna(value) for value in values)
    sharpness = sides["small"]["quantity"] == "sharpness_pct"
    ratio = f"{values[1] / values[0]:.3g}" if known and values[0] and sharpness else ""
    return [*map(_number, values, spreads), ratio]


def _of(network: str, table: str) -> pd.DataFrame:
    frame = table_file("keskar2017", table)
    return frame[frame["network"] == network]


def _number(mean: Any, std: Any) -> str:
    if pd.isna(mean):
        return "not measured"
    return f"{mean:.4g}" + ("" if pd.isna(std) else f" ± {std:.2g}")
