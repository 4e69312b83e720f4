"""From version 0.1 (commit 54c90e6) to 0.2: how its lock entries and records are moved to their new form.

Run it at the root of the repository: `python -m migrations.v0_2`. It reads the old form from git's history and may be
run again at any later commit. README.md says what it checks, and how to go on.
"""

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gapscope import noops
from gapscope import renamed as renaming
from gapscope.records.provenance import path_of
from migrations import records
from migrations.migrate import Change, Files, Migration, MigrationError, Step, leaves, params, put, run
from migrations.plain_names import plain, plain_files, plain_models, sources, unlike
from migrations.spectra_tails import CUT, convert, differences

OLD = "54c90e6"
SUFFIXES = (".histogram.csv", ".csv", ".jsonl", ".json")

# --- tables that every change of the form adds to ---------------------------------------------------------------------
LEFT = frozenset({  # made anew from records, in seconds each
    "code", "near_rank", "tables", "plots", "claims", "report", "settings",
    "curvature_report", "landscape_report", "warmstart_report", "random_matrices_report",
})  # fmt: skip
STAGES = (
    "download", "plan", "train", "activations", "spectra", "controls", "sharpness", "curvature", "noise_scale",
    "landscape", "random_matrices", "perturbation", "warmstart",
)  # fmt: skip


def moved(name: str) -> Change:
    """Return the function of an old param's value that gives the new params with their values."""
    group, _, key = name.rpartition(".")
    return lambda value: dict(leaves(renaming.renamed({group: {key: value}})))


def measures(entry: Mapping[str, Any]) -> list[str]:
    """Return the measures that a study of 0.1 took, by the pipelines that its plan depended on."""
    ran = entry["params"]["params.yaml"]["pipelines"]
    curved = ["curvature", "noise_scale"] if ran["curvature"] else []
    return [*TAKEN, *curved, *(["landscape"] if ran["landscape"] else [])]


MACHINE = frozenset(old for old, new in renaming.RENAMED.items() if new[0].startswith("runtime."))
PIPELINES = ("networks", "curvature", "claims", "landscape", "random_matrices", "warmstart")
RENAMED: dict[str, Change] = {  # old dotted name of a param -> new dotted name, or function of the value
    "models": plain_models, **{old: moved(old) for old in renaming.RENAMED if old not in MACHINE},
}  # fmt: skip
DROPPED = MACHINE | {f"pipelines.{name}" for name in PIPELINES}  # no stage depends on these any more
OWN_MODELS = (  # stages that build a network, and so depend on what the study's own names stand for
    "plan", "train", "activations", "controls", "sharpness", "curvature", "noise_scale", "landscape", "warmstart",
)  # fmt: skip
CUTS = ("plan", "spectra", "controls")
TAKEN = ("evaluation", "spectra", "near_rank", "effective_ranks", "sharpness")  # by every study of networks
ADDED: dict[str, dict[str, Any]] = {  # stage -> new param -> the value of the old numbers, or a function of the entry
    stage: ({"code.models": sources} if stage in OWN_MODELS else {})
    | ({"spectra.cut": CUT} if stage in CUTS else {})
    | ({"measures": measures} if stage == "plan" else {})
    for stage in {*OWN_MODELS, *CUTS}
}
REPLACED = {"src/gapscope/models/__init__.py": "conf/no_own_model.txt"}  # of built-in models; its code was in a digest


def path(old: str) -> str:
    """Return the new path of a record or of cached data."""
    return str(plain(old))


def entry(old: str) -> str:
    """Return the new name of a lock entry."""
    return str(plain(old))


# --- provenance beside the numbers ------------------------------------------------------------------------------------
MADE = ("commit", "code", "device", "processor", "instructions", "threads", "ranks", "wall_s")
VERSIONS = ("gapscope", "torch", "numpy", "python")
SECONDS = {"wall_s": "training_s", "cpu_s": "cpu_s"}  # of a record's own -> name in its provenance


def split_provenance(stage: str, files: Files) -> Files:
    """Move provenance and seconds out of an entry's records into a file of its own; None: it was not recorded."""
    new: Files = {}
    side: dict[str, Any] = {"schema": 1, "stage": stage, "revision": 1} | dict.fromkeys((*MADE, *VERSIONS))
    for name, content in files.items():
        if name.endswith(".csv"):
            rows = table(content)
            if stage == "train":
                side["epochs_s"] = [number(row.pop("wall_s")) for row in rows]
                new[name] = table_text(rows)
            else:
                new[name] = content
        else:
            record, rest = head(name, content)
            made = record.pop("provenance", {})
            side |= made | {new: record.pop(old) for old, new in SECONDS.items() if old in record}
            if stage == "spectra" and "device" in record:
                record = {{"device": "forward_device"}.get(key, key): value for key, value in record.items()}
            new[name] = text(name, record | {"device": made.get("device")}, rest)
            place = path_of_text(name)
    return new | {place: (json.dumps(side, indent=2) + "\n").encode()}


def joined_provenance(stage: str, before: Files, after: Files) -> list[str]:
    """Return what of the old records cannot be read from the new ones and their provenance."""
    different: list[str] = []
    for name, content in before.items():
        if name.endswith(".csv"):
            rows = table(after[name])
            side = json.loads(after[path_of_text(name)]) if stage == "train" else {}
            if stage == "train":
                rows = [row | {"wall_s": spent} for row, spent in zip(rows, side["epochs_s"], strict=True)]
            different += compared(name, [typed(row) for row in table(content)], [typed(row) for row in rows])
            continue
        (old, rest), (new, other) = head(name, content), head(name, after[name])
        side = json.loads(after[path_of_text(name)])
        if rest != other:
            different.append(f"{name}: the lines after the first")
        if "provenance" in old:
            new["provenance"] = {key: side[key] for key in old["provenance"]}
        new |= {own: side[key] for own, key in SECONDS.items() if own in old}
        if new.pop("device") != old.get("provenance", {}).get("device"):
            different.append(f"{name}: device")
        if "forward_device" in new:
            new["device"] = new.pop("forward_device")
        different += compared(name, old, new)
    return different


# --- names of params, and no-op values, within records ----------------------------------------------------------------
def rename_settings(stage: str, files: Files) -> Files:
    """Give the settings that a record holds their new names, without no-op values."""
    new = dict(files)
    for name in filter(is_record, files):
        record, rest = head(name, files[name])
        for key, group in settings_of(stage, record):
            record[key] = params(MIGRATION, "", {group: record[key]}).get(group, {})
        new[name] = text(name, record, rest)
    return new


def settings_of(stage: str, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the fields of a record that hold a group of params, and the group's name."""
    fields = [("train", "train"), ("activations", "activations"), ("sharpness", "sharpness"), ("settings", stage)]
    return [(key, group) for key, group in fields if isinstance(record.get(key), dict)]


def renamed_settings(stage: str, before: Files, after: Files) -> list[str]:
    """Return the settings whose values are not the old ones."""
    different: list[str] = []
    for name in filter(is_record, before):
        (old, _), (new, _) = head(name, before[name]), head(name, after[name])
        for key, group in settings_of(stage, old):
            kept = {leaf: value for leaf, value in leaves({group: old[key]}) if leaf not in DROPPED}
            every: dict[str, Any] = {group: {}}
            for leaf, value in kept.items():
                change = RENAMED.get(leaf, leaf)
                for new_key, item in {change: value}.items() if isinstance(change, str) else change(value).items():
                    put(every, new_key, item)
            whole = noops.put_back({group: new[key]})
            old[key], new[key] = every[group], _restricted(whole[group], every[group])
        different += compared(name, old, new)
    return different


def _restricted(values: Any, like: Any) -> Any:
    """Return the values that another mapping has too: old records do not name every param that is off."""
    if isinstance(values, Mapping) and isinstance(like, Mapping):
        return {name: _restricted(values[name], like[name]) for name in like if name in values}
    return values


# --- spectra: every value up to the cut, instead of every value -------------------------------------------------------
def keep_tails(stage: str, files: Files) -> Files:
    """Convert the records of spectra and controls to the form that keeps tails and quantiles."""
    return {name: convert(content) if name.endswith(".jsonl") else content for name, content in files.items()}


def kept_tails(stage: str, before: Files, after: Files) -> list[str]:
    """Return what the records in their new form say otherwise than the old ones."""
    return [
        f"{name}: {what}"
        for name, content in before.items()
        for what in (differences(content, after[name]) if name.endswith(".jsonl") else ())
    ]


# --- long tables ------------------------------------------------------------------------------------------------------
def make_long(stage: str, files: Files) -> Files:
    """Convert each record of a stage to a long table and what it says of itself; provenance stays as it is."""
    new = {name: content for name, content in files.items() if not name.startswith("metrics/")}
    for place, parts in _places(files).items():
        new |= {f"{place}{suffix}": content for suffix, content in records.convert(stage, parts).items()}
    return new


def made_long(stage: str, before: Files, after: Files) -> list[str]:
    """Return the values of the old records that cannot be read from the new ones."""
    new = _places(after)
    return [
        f"{place}: {line}"
        for place, parts in _places(before).items()
        for line in records.differences(stage, parts, new[place])
    ]


def _places(files: Files) -> dict[str, dict[str, bytes]]:
    """Return path without suffix -> suffix -> content, of the records alone."""
    found: dict[str, dict[str, bytes]] = {}
    for name, content in files.items():
        if name.startswith("metrics/"):
            suffix = next(one for one in SUFFIXES if name.endswith(one))
            found.setdefault(name.removesuffix(suffix), {})[suffix] = content
    return found


# --- reading and writing ----------------------------------------------------------------------------------------------
def is_record(name: str) -> bool:
    """Whether a file of an entry is a JSON record, with or without lines after it; not its provenance."""
    return name.startswith("metrics/") and not name.endswith(".csv")


def head(name: str, content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return a JSON record, or the first line of JSON lines, and the bytes after it."""
    first, rest = content.split(b"\n", 1) if name.endswith(".jsonl") else (content, b"")
    return json.loads(first), rest


def text(name: str, record: Mapping[str, Any], rest: bytes) -> bytes:
    """Return a record's file, as `write_record` and `write_spectra` write it."""
    lines = name.endswith(".jsonl")
    return json.dumps(record, indent=None if lines else 2, allow_nan=False).encode() + b"\n" + rest


def table(content: bytes) -> list[dict[str, str]]:
    """Return the rows of a CSV table, as text."""
    return list(csv.DictReader(io.StringIO(content.decode())))


def table_text(rows: list[dict[str, str]]) -> bytes:
    """Return the file of a CSV table."""
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with numbers in place of their text."""
    return {name: number(value) for name, value in row.items()}


def number(value: Any) -> Any:
    """Return the number that a text holds, else the text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def path_of_text(name: str) -> str:
    """Return where the provenance of a record lies."""
    return path_of(Path(name)).as_posix()


def compared(name: str, old: Any, new: Any) -> list[str]:
    """Return the places at which two values differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*old, *new])
        missing = object()
        return [
            line for key in keys for line in compared(f"{name} {key}", old.get(key, missing), new.get(key, missing))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [line for i, pair in enumerate(zip(old, new, strict=True)) for line in compared(f"{name}[{i}]", *pair)]
    same = old == new or (isinstance(old, float) and isinstance(new, float) and math.isnan(old) and math.isnan(new))
    return [] if same and isinstance(old, bool) == isinstance(new, bool) else [name]


NAMES = Step(plain_files, unlike)
TAILS = Step(keep_tails, kept_tails)
PROVENANCE = Step(split_provenance, joined_provenance)
SETTINGS = Step(rename_settings, renamed_settings)
LONG = Step(make_long, made_long)
MIGRATION = Migration(
    old=OLD,
    revisions=dict.fromkeys(STAGES, 1),
    left=LEFT,
    steps={  # stage -> conversions of its records, each on what the one before it left
        "train": [NAMES, PROVENANCE, SETTINGS, LONG],
        "spectra": [NAMES, PROVENANCE, SETTINGS, TAILS],
        "controls": [NAMES, PROVENANCE, SETTINGS, TAILS],
        "sharpness": [NAMES, PROVENANCE, SETTINGS, LONG],
        "curvature": [PROVENANCE, SETTINGS, LONG],
        "noise_scale": [PROVENANCE, SETTINGS, LONG],
        "landscape": [PROVENANCE, SETTINGS, LONG],
        "random_matrices": [PROVENANCE, SETTINGS, LONG],
        "perturbation": [LONG],
        "warmstart": [PROVENANCE, SETTINGS, LONG],
    },
    path=path,
    entry=entry,
    renamed=RENAMED,
    dropped=DROPPED,
    added=ADDED,
    replaced=REPLACED,
    constants={"checked.yaml": {"names": "safe"}},
)


def main() -> None:
    """Run the migration and say what became of the entries."""
    try:
        report = run(MIGRATION)
    except MigrationError as error:
        raise SystemExit(f"nothing was changed: {error}") from error
    for lock, names in report.migrated.items():
        print(f"{lock}: {len(names)} entries")
    for name, why in report.stale.items():
        print(f"left out: {name}: {why}")
    print(f"{len(report.files)} records written")


if __name__ == "__main__":
    main()
