"""Results in a few small files: part-0, part-1, ... and manifest.json, which holds the checksums of all.

The parts are one stream, cut by size. It is the files one after the other, each compressed with LZMA. Those that are
worth most come first. What would not fit is left out and listed.
"""

import hashlib
import json
import lzma
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gapscope.errors import InputError
from gapscope.records.files import write_text
from gapscope.runtime import cores

MANIFEST = "manifest.json"
FORMAT = 1
PRESET = 1  # weights shrink by 8 % with any preset, records to a fifth even with this one
FOLDERS = ("metrics", "provenance", "data/runs", "data/checkpoints", "data/gpu")  # that a pack may write into


@dataclass(frozen=True)
class Limits:
    """The size of a pack: number of files, manifest included, and bytes of each."""

    files: int = 8
    file_bytes: int = 16_000_000

    def __post_init__(self) -> None:
        if self.files < 2 or self.file_bytes < 1:
            raise InputError(f"a pack has at least 2 files of at least 1 byte, got {self}")


def write_pack(paths: Sequence[Path], out: Path, facts: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Write a pack and return its manifest.

    Args:
        paths: files, relative to this folder, the most valuable first.
        out: folder to write; what it held is removed.
        facts: further entries of the manifest.
        limits: of the pack.

    Raises:
        InputError: the manifest alone is too large for a file.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    room, stream, members, left_out = (limits.files - 1) * limits.file_bytes, bytearray(), [], []
    for path, size, checksum, packed in _compressed(paths):
        about = {"path": path.as_posix(), "bytes": size, "sha256": checksum}
        if len(stream) + len(packed) > room:
            left_out.append(about)
            continue
        members.append({**about, "start": len(stream), "packed_bytes": len(packed)})
        stream += packed
    parts = []
    for index, start in enumerate(range(0, len(stream), limits.file_bytes)):
        part = bytes(stream[start : start + limits.file_bytes])
        (out / f"part-{index}").write_bytes(part)
        parts.append({"name": f"part-{index}", "bytes": len(part), "sha256": _sha256(part)})
    manifest = {"format": FORMAT, **facts, "parts": parts, "members": members, "left_out": left_out}
    text = json.dumps(manifest | {"sha256": _sha256(_canonical(manifest))})
    if len(text.encode()) > limits.file_bytes:
        raise InputError(f"the manifest of {len(text)} bytes is larger than a file of the pack may be")
    write_text(out / MANIFEST, text)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a pack whose files are all whole.

    Raises:
        InputError: a file is missing, damaged, of another format, or would be written outside `FOLDERS`.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        checksum = manifest.pop("sha256")
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: {folder} is no pack of gpu/run.py") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is damaged; bring the pack again") from error
    if checksum != _sha256(_canonical(manifest)):
        raise InputError(f"{path} is damaged (another checksum); bring the pack again")
    if manifest["format"] != FORMAT:
        raise InputError(f"{path} has format {manifest['format']}, not {FORMAT}; unpack it with its own version")
    for part in manifest["parts"]:
        file = folder / part["name"]
        if not file.is_file():
            raise InputError(f"{file} is missing; bring the pack again")
        if _sha256(file.read_bytes()) != part["sha256"]:
            raise InputError(f"{file} is damaged (another checksum); bring the pack again")
    for member in manifest["members"]:
        _check_place(member["path"])
    return manifest


def contents(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of a pack: path -> content.

    Raises:
        InputError: a file has another checksum than when it was packed.
    """
    stream = b"".join((folder / part["name"]).read_bytes() for part in manifest["parts"])
    found = {}
    for member in manifest["members"]:
        content = lzma.decompress(stream[member["start"] : member["start"] + member["packed_bytes"]])
        if _sha256(content) != member["sha256"]:
            raise InputError(f"{member['path']} of {folder} has another checksum than when it was packed")
        found[member["path"]] = content
    return found


def _compressed(paths: Sequence[Path]) -> Iterator[tuple[Path, int, str, bytes]]:
    def one(path: Path) -> tuple[Path, int, str, bytes]:
        content = path.read_bytes()
        return path, len(content), _sha256(content), lzma.compress(content, preset=PRESET)

    with ThreadPoolExecutor(cores()) as pool:  # lzma lets other threads run
        yield from pool.map(one, paths)


def _check_place(path: str) -> None:
    parts = PurePosixPath(path).parts
    if ".." in parts or not any(PurePosixPath(path).is_relative_to(folder) for folder in FOLDERS):
        raise InputError(f"the pack would write {path}, which is outside {', '.join(FOLDERS)}")


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
