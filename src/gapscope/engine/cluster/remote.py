"""A DVC remote as the place where controller and workers meet that share no file system: S3, ssh, or a folder.

    files/md5/ab/cdef...        contents by their MD5, where `dvc pull` looks for them too
    gapscope/RUN/...            what controller and workers tell each other (`relay`, `away`)

A content is never changed, and is checked against its MD5 when it is fetched.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any

from gapscope.errors import InputError, did_you_mean, reason

CONTENTS = "files/md5"
AT_ONCE = 16  # transfers
WRITES_WHOLE = ("s3", "gs", "azure", "oss")  # elsewhere a file is seen before it is complete
TOLD = ("url", "endpointurl", "region", "profile", "user", "port")  # options of a remote that are no secret
Manifest = dict[str, str]  # path within a study's folder -> MD5


class RemoteError(OSError):
    """The remote cannot be reached, or refuses."""


class ContentError(RemoteError):
    """The remote lacks a content, or holds something else than its MD5 says."""


class Remote:
    """A DVC remote.

    Args:
        options: of the remote in DVC's configuration, at least its `url`.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        from dvc.fs import get_cloud_fs

        self.options = dict(options)
        kind, config, path = get_cloud_fs(None, **options)
        self._files, self._path = kind(**config), path
        self._stored = set[str]()

    def _place(self, name: str) -> str:
        return str(self._files.join(self._path, *name.split("/")))

    def put(self, source: Path, name: str) -> None:
        """Copy a file to a name, which then holds the whole of it."""
        with _named(f"{self.options['url']}: {name} cannot be written"):
            target = self._place(name)
            if self._files.protocol in WRITES_WHOLE:
                self._files.put_file(os.fspath(source), target)
                return
            self._files.makedirs(self._files.parent(target))
            partial = f"{target}.{os.getpid()}.{os.urandom(4).hex()}"
            self._files.put_file(os.fspath(source), partial)
            self._files.mv(partial, target)

    def get(self, name: str, target: Path) -> None:
        """Copy a file from a name.

        Raises:
            FileNotFoundError: no such file.
        """
        with _named(f"{self.options['url']}: {name} cannot be read"):
            self._files.get_file(self._place(name), os.fspath(target))

    def tell(self, name: str, **message: Any) -> None:
        """Write a small message."""
        with tempfile.TemporaryDirectory() as folder:
            (file := Path(folder, "message")).write_text(json.dumps(message))
            self.put(file, name)

    def told(self, name: str) -> dict[str, Any] | None:
        """Return a message; None if there is none."""
        with _named(f"{self.options['url']}: {name} cannot be read"), suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads(self._files.cat_file(self._place(name)))
            return found
        return None

    def remove(self, name: str) -> None:
        """Remove what is below a name, if there is anything."""
        with suppress(FileNotFoundError), _named(f"{self.options['url']}: {name} cannot be removed"):
            self._files.fs.invalidate_cache()
            self._files.rm(self._place(name), recursive=True)

    def store(self, root: Path, paths: Iterable[str], *, below: str = CONTENTS) -> Manifest:
        """Copy the content of files, and of all files in folders, to the remote, unless it has them.

        Args:
            root: folder that the paths are within.
            paths: those that do not exist are left out.
            below: name under which contents are.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            names = sorted({name for path in paths for name in _files_of(root, path)})
            return dict(zip(names, pool.map(lambda name: self._store(root / name, below), names), strict=True))

    def _store(self, file: Path, below: str) -> str:
        digest = md5_of(file)
        if (name := content_name(digest, below)) not in self._stored:
            with _named(f"{self.options['url']} cannot be asked"):
                there = self._files.exists(self._place(name))
            if not there:
                self.put(file, name)
            self._stored.add(name)
        return digest

    def fetch(self, manifest: Manifest, root: Path, *, below: str = CONTENTS, cache: Path | None = None) -> None:
        """Copy contents into a folder, each checked against its MD5.

        Args:
            manifest: which contents, and where they go.
            root: folder that the paths are within.
            below: name under which contents are.
            cache: folder that keeps the contents; then `root` gets links to them.

        Raises:
            ContentError: one is missing, or is not what its MD5 says.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda pair: self._fetch(root / pair[0], pair[1], below, cache), manifest.items()))

    def _fetch(self, target: Path, digest: str, below: str, cache: Path | None) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if cache is None:
            self._fetch_file(target, digest, below)
            return
        if not (kept := cache / content_name(digest)).exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            self._fetch_file(kept, digest, below)
            kept.chmod(0o444)  # stages read it through links
        target.unlink(missing_ok=True)
        target.symlink_to(kept)

    def _fetch_file(self, target: Path, digest: str, below: str) -> None:
        name = content_name(digest, below)
        partial = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
        try:
            self.get(name, partial)
            if (found := md5_of(partial)) != digest:
                raise ContentError(f"{self.options['url']}: {name} has the MD5 {found}; remove it there, and run again")
            partial.rename(target)
        except FileNotFoundError as error:
            raise ContentError(f"{self.options['url']}: {name} is missing") from error
        finally:
            partial.unlink(missing_ok=True)


def remote_of(name: str) -> Remote:
    """Return the DVC remote of this repository that has a name. Its secrets stay here.

    Raises:
        InputError: no such remote, or the package for its kind is missing.
    """
    from dvc.config import Config
    from dvc.fs import RemoteMissingDepsError

    remotes = Config.from_cwd()["remote"]
    if name not in remotes:
        raise InputError(f"no DVC remote {name!r}; {did_you_mean(name, remotes)}; `dvc remote add` makes one")
    try:
        return Remote({key: str(value) for key, value in remotes[name].items() if key in TOLD})
    except RemoteMissingDepsError as error:
        raise InputError(f"DVC remote {name!r}: {reason(error)}") from error


def content_name(digest: str, below: str = CONTENTS) -> str:
    """Return the name of a content, as DVC has it.

    Example:
        >>> content_name("d41d8cd98f00b204e9800998ecf8427e")
        'files/md5/d4/1d8cd98f00b204e9800998ecf8427e'
    """
    return f"{below}/{digest[:2]}/{digest[2:]}"


def md5_of(file: Path) -> str:
    """Return the MD5 of a file."""
    with file.open("rb") as content:
        return file_digest(content, "md5").hexdigest()


def _files_of(root: Path, path: str) -> list[str]:
    top = root / path
    found = [top] if top.is_file() else [file for file in top.rglob("*") if file.is_file()]
    return [file.relative_to(root).as_posix() for file in found if file.suffix != ".tmp"]


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn whatever the remote's library raises into a RemoteError; a missing file stays one."""
    try:
        yield
    except (FileNotFoundError, RemoteError):
        raise
    except Exception as error:  # botocore's, asyncssh's, ... have nothing in common
        raise RemoteError(f"{what} ({type(error).__name__}: {reason(error)})") from error
