"""Records of version 0.1 (commit 54c90e6) as long tables: pure functions of a record's files, suffix -> bytes.

`convert` gives the new files and `read_back` the old values from them; `differences` lists what is not equal. What a
JSON record holds beside numbers, provenance included, stays in it. Seconds go with the provenance.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gapscope.measures import (
    curvature,
    evaluation,
    landscape,
    noise_scale,
    perturbation,
    random_matrices,
    sharpness,
    warm_start,
)
from gapscope.records.long import ordered
from gapscope.records.tables import cell_text

Files = Mapping[str, bytes]
Record = dict[str, Any]
Rows = list[dict[str, Any]]
TRAINED = ("updates", "epochs_run", "penalty", "weight_norm", "distance_from_initial")
SIDES = ("small", "large")


def convert(stage: str, files: Files) -> dict[str, bytes]:
    """Return the new files of a stage's record; those of a stage whose form is as it was come back unchanged.

    Raises:
        ValueError: a value of the old files cannot be read from the new ones.
    """
    if stage not in STAGES:
        return dict(files)
    new = STAGES[stage][0](files)
    if different := differences(stage, files, new):
        raise ValueError(f"{stage}: {'; '.join(different[:5])}")
    return new


def differences(stage: str, old: Files, new: Files) -> list[str]:
    """Return what of the old files cannot be read from the new ones: the place and both values."""
    before = {suffix: _values(suffix, content) for suffix, content in old.items()}
    after = STAGES[stage][1](new)
    return [line for suffix in before for line in _compared(suffix, before[suffix], after.get(suffix))]


# --- train ---
def _train(files: Files) -> dict[str, bytes]:
    history, record = _table(files[".csv"]), _record(files[".json"])
    seconds = [row.pop("wall_s") for row in history] if history and "wall_s" in history[0] else []
    final = {name: record.pop(name) for name in list(record) if name in TRAINED or evaluation.spelled(name)}
    rows = evaluation.rows(history, final)
    return {".csv": _long(rows), ".json": _json(_with_seconds(record, epochs_s=seconds))}


def _train_back(files: Files) -> dict[str, Any]:
    record, seconds = _without_seconds(_record(files[".json"]), "epochs_s")
    names = {_key(*found): name for name in _training_names() if (found := evaluation.spelled(name))}
    history: dict[Any, dict[str, Any]] = {}
    for row in _table(files[".csv"]):
        name = names[_key(row["quantity"], row)]
        if row["epoch"] is None:
            record[name] = row["value"]
        else:
            history.setdefault(row["epoch"], {"epoch": row["epoch"]})[name] = row["value"]
    rows = list(history.values())
    for row, spent in zip(rows, seconds, strict=False):
        row["wall_s"] = spent
    return {".json": record, ".csv": rows}


def _training_names() -> list[str]:
    of_splits = [
        f"{split}_{quantity}{suffix}"
        for split in ("train", "test")
        for quantity in evaluation.OF_A_SPLIT
        for suffix in ("", "_running")
    ]
    return [*evaluation.PLAIN, *of_splits]


def _key(quantity: str, axes: Mapping[str, Any]) -> tuple[Any, ...]:
    return quantity, axes.get("split"), axes.get("statistics")


# --- sharpness ---
def _sharpness(files: Files) -> dict[str, bytes]:
    record = _record(files[".json"])
    found = [{**row, **_space(row["space"])} for row in record.pop("sharpness")]
    return {".csv": _long(sharpness.rows(found)), ".json": _json(_with_seconds(record))}


def _space(name: str) -> dict[str, Any]:
    """Return the axes of a space: full, or randomP for a manifold of dimension P."""
    return {"space": "full", "dimension": None} if name == "full" else {
        "space": "manifold", "dimension": int(name.removeprefix("random"))
    }  # fmt: skip


def _sharpness_back(files: Files) -> dict[str, Any]:
    record, _ = _without_seconds(_record(files[".json"]))
    names = {quantity: entry for entry, quantity in sharpness.RECORDED.items()}
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in _table(files[".csv"]):
        space = "full" if row["dimension"] is None else f"random{row['dimension']}"
        axes = {"split": row["split"], "space": space, "epsilon": row["epsilon"]}
        entry = names[row["quantity"]]
        value = bool(row["value"]) if entry == "converged" else row["value"]
        found.setdefault(tuple(axes.values()), axes)[entry] = value
    return {".json": record | {"sharpness": list(found.values())}}


# --- curvature ---
CURVED = ("hessian", "gauss_newton", "ball", "gradient_norm", "weight_norm", "parameters")


def _curvature(files: Files) -> dict[str, bytes]:
    record = _record(files[".json"])
    found = {name: record.pop(name) for name in CURVED if name in record}
    return {".csv": _long(curvature.rows(found) if found else []), ".json": _json(_with_seconds(record))}


def _curvature_back(files: Files) -> dict[str, Any]:
    record, _ = _without_seconds(_record(files[".json"]))
    for row in _table(files[".csv"]):
        quantity, value = row["quantity"], row["value"]
        if row["operator"] and row["index"] is not None:
            record.setdefault(row["operator"], {}).setdefault(quantity, []).append(value)
        elif row["operator"]:
            record.setdefault(row["operator"], {})[quantity] = value
        elif row["radius"] is not None:
            _, name, part = quantity.split("_")
            record.setdefault("ball", {}).setdefault(name, {"radius": row["radius"]})[part] = value
        else:
            record[quantity] = value
    return {".json": record}


# --- noise scale ---
def _noise_scale(files: Files) -> dict[str, bytes]:
    table, record = _table(files[".csv"]), _record(files[".json"])
    record["conditions"] = noise_scale.conditions(table)
    return {".csv": _long(noise_scale.rows(table)), ".json": _json(_with_seconds(record))}


def _noise_scale_back(files: Files) -> dict[str, Any]:
    record, _ = _without_seconds(_record(files[".json"]))
    shared = record.pop("conditions")
    epochs: dict[Any, dict[str, Any]] = {}
    for row in _table(files[".csv"]):
        about = epochs.setdefault(row["epoch"], {"epoch": row["epoch"], **shared})
        about[row["quantity"]] = row["value"]
        if row["quantity"] == "noise_scale":
            about |= {"low": row["low"], "high": row["high"]}
    return {".json": record, ".csv": list(epochs.values())}


# --- landscape ---
def _landscape(files: Files) -> dict[str, bytes]:
    table, record = _table(files[".csv"]), _record(files[".json"])
    ends, distance = record.pop("ends", {}), record.pop("distance", None)
    rows = landscape.rows(table, ends, distance) if ends else []
    return {".csv": _long(rows), ".json": _json(_with_seconds(record))}


def _landscape_back(files: Files) -> dict[str, Any]:
    record, _ = _without_seconds(_record(files[".json"]))
    names = {"eigenvalue": "eigenvalues", "eigenvalue_residual": "residuals"}
    kinds = {"eigenvector": "eigenvectors", "random": "random"}
    points: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in _table(files[".csv"]):
        quantity, value, end = row["quantity"], row["value"], row["end"]
        if row["split"]:
            place = {"kind": row["direction"], "end": end, "direction": row["index"], "a": row["step"]}
            place["b"] = row.get("second_step")
            points.setdefault(tuple(place.values()), place)[f"{row['split']}_{quantity}"] = value
        elif quantity == "distance":
            record["distance"] = value
        else:
            found = record.setdefault("ends", {}).setdefault(end, {})
            if quantity == "rise":
                rises = found.setdefault("rises", {"radius": row["radius"]})
                rises.setdefault(kinds[row["direction"]], []).append(value)
            elif quantity in names:
                found.setdefault(names[quantity], []).append(value)
            else:
                found[quantity] = value
    return {".json": record, ".csv": list(points.values())}


# --- warm start ---
def _warm_start(files: Files) -> dict[str, bytes]:
    starts = [_start(row) for row in _table(files[".csv"])]
    record = _with_seconds(_record(files[".json"])) | {"starts": warm_start.statuses(starts)}
    return {".csv": _long(warm_start.rows(starts)), ".json": _json(record)}


def _start(row: Mapping[str, Any]) -> dict[str, Any]:
    values = []
    for column, value in row.items():
        phase, _, name = column.partition("_")
        if phase in SIDES and value is not None:
            values.append({"phase": phase, **_warm_start_axes(name), "value": value})
    return {"start_epoch": row["start_epoch"], "status": row["status"], "values": values}


def _warm_start_axes(name: str) -> dict[str, Any]:
    if name.startswith("sharpness_"):
        *split, space, epsilon = name.removeprefix("sharpness_").removesuffix("_pct").split("_")
        axes = {"split": split[0] if split else "train", "space": space, "epsilon": float(epsilon)}
        return {**axes, "quantity": "sharpness_pct"}
    found = evaluation.spelled(name)
    return {**found[1], "quantity": found[0]} if found else {"quantity": name}


def _warm_start_back(files: Files) -> dict[str, Any]:
    record, _ = _without_seconds(_record(files[".json"]))
    starts = record.pop("starts")
    rows: dict[Any, dict[str, Any]] = {
        int(start): {"start_epoch": int(start), "status": status} for start, status in starts.items()
    }
    for row in _table(files[".csv"]):
        split, quantity = row["split"], row["quantity"]
        if quantity == "sharpness_pct":
            name = f"sharpness_{'' if split == 'train' else f'{split}_'}{row['space']}_{row['epsilon']:g}_pct"
        else:
            name = f"{split}_{quantity}" if split else quantity
        rows[row["start_epoch"]][f"{row['phase']}_{name}"] = row["value"]
    return {".json": record, ".csv": list(rows.values())}


# --- random matrices, perturbation ---
def _random_matrices(files: Files) -> dict[str, bytes]:
    rows = random_matrices.rows(_table(files[".csv"]), _table(files[".histogram.csv"]))
    return {".csv": _long(rows), ".json": _json(_with_seconds(_record(files[".json"])))}


def _random_matrices_back(files: Files) -> dict[str, Any]:
    values: dict[tuple[Any, ...], dict[str, Any]] = {}
    bins: dict[tuple[Any, ...], dict[str, Any]] = {}
    pooled: dict[tuple[Any, ...], Any] = {}
    for row in _table(files[".csv"]):
        shape = {"m": row["rows"], "n": row["columns"]}
        if row["repetition"] is not None:
            about = {**shape, "repetition": row["repetition"]}
            values.setdefault(tuple(about.values()), about)[row["quantity"]] = row["value"]
        elif row["bin_low"] is None:
            pooled[*shape.values()] = row["value"]
        else:
            about = {**shape, "low": row["bin_low"], "high": row["bin_high"]}
            about |= {"repetitions": pooled[*shape.values()]}
            bins.setdefault((*shape.values(), row["bin_low"]), about)[row["quantity"]] = row["value"]
    record, _ = _without_seconds(_record(files[".json"]))
    return {".csv": list(values.values()), ".histogram.csv": list(bins.values()), ".json": record}


def _perturbation(files: Files) -> dict[str, bytes]:
    return {".csv": _long(perturbation.rows(_table(files[".csv"])))}


def _perturbation_back(files: Files) -> dict[str, Any]:
    problems: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in _table(files[".csv"]):
        about = {name: row[name] for name in perturbation.PROBLEM}
        problems.setdefault(tuple(about.values()), about)[row["quantity"]] = row["value"]
    return {".csv": list(problems.values())}


STAGES: dict[str, tuple[Callable[[Files], dict[str, bytes]], Callable[[Files], dict[str, Any]]]] = {
    "train": (_train, _train_back),
    "sharpness": (_sharpness, _sharpness_back),
    "curvature": (_curvature, _curvature_back),
    "noise_scale": (_noise_scale, _noise_scale_back),
    "landscape": (_landscape, _landscape_back),
    "warmstart": (_warm_start, _warm_start_back),
    "random_matrices": (_random_matrices, _random_matrices_back),
    "perturbation": (_perturbation, _perturbation_back),
}


# --- bytes and values ---
def _record(content: bytes) -> Record:
    return dict(json.loads(content))


def _json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()


def _with_seconds(record: Record, epochs_s: list[Any] | None = None) -> Record:
    """Return the record with its device, and with seconds moved to the provenance, where it holds one."""
    made = record.get("provenance")
    if made is None:
        return record
    made = dict(made)
    for name in ("wall_s", "cpu_s"):
        if name in record:
            made[{"wall_s": "training_s"}.get(name, name)] = record.pop(name)
    if epochs_s:
        made["epochs_s"] = epochs_s
    return {key: value for key, value in record.items() if key != "provenance"} | {
        "device": made["device"], "provenance": made
    }  # fmt: skip


def _without_seconds(record: Record, name: str = "") -> tuple[Record, list[Any]]:
    """Return the record as it was, and the seconds of each epoch."""
    if "provenance" not in record:
        return record, []
    made = record["provenance"]
    seconds = made.pop(name, [])
    record.pop("device")
    for new, old in (("training_s", "wall_s"), ("cpu_s", "cpu_s")):
        if new in made:
            record[old] = made.pop(new)
    return record, seconds


def _table(content: bytes) -> Rows:
    rows = csv.DictReader(io.StringIO(content.decode()))
    return [{name: typed(text) for name, text in row.items()} for row in rows]


def typed(text: str) -> Any:
    """Return the value of a CSV cell: a number, a truth value, None for an empty cell, or the text."""
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _long(rows: Iterable[Mapping[str, Any]]) -> bytes:
    listed = ordered(rows)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(listed[0]) if listed else ["quantity", "value"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell_text(value, exact=True) for name, value in row.items()} for row in listed)
    return file.getvalue().encode()


def _values(suffix: str, content: bytes) -> Any:
    return _record(content) if suffix == ".json" else _table(content)


def _compared(place: str, old: Any, new: Any) -> list[str]:
    """Return where two trees of values differ; None in the old one may be missing in the new one."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        return [line for name in names for line in _compared(f"{place} {name}", old.get(name), new.get(name))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for index, (a, b) in pairs for line in _compared(f"{place} {index}", a, b)]
    same = old == new and isinstance(old, bool) == isinstance(new, bool)
    nothing = all(isinstance(value, float) and math.isnan(value) for value in (old, new))
    return [] if same or nothing else [f"{place}: {old!r} became {new!r}"]
