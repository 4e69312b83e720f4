"""`gapscope new`: a study file for your own network and data, tried before it is kept."""

import json
import re
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gapscope.cli.compose import composed
from gapscope.cli.study_files import PACKAGE, STUDIES
from gapscope.errors import InputError
from gapscope.names import CHECKS, NAME, SOURCE
from gapscope.records.files import write_text

if TYPE_CHECKING:
    from gapscope.data.datasets import Dataset

EXAMPLE = "example: gapscope new mine --model examples.nets:Net --data examples/noisy_digits.npz"
LADDER = (16, 64, 256, 1024, 4096)  # batch sizes to choose from; at most half of the training set: 2 updates an epoch
EPOCHS = 20
SHARPNESS_IMAGES = 1000  # the default of sharpness.images
PROBE_IMAGES = 512  # the default of activations.probe_images
TASK_OF = {  # targets of the data -> train.task
    "numbers": "regression", "label sets": "multilabel_classification", "tokens": "language_model",
}  # fmt: skip
TEXT = """\
{package}
# How large may the batch of {source} be on {file}? Written by gapscope new.
study: {study}  # keep the first line of this file: it looks like a comment, but Hydra needs it
models: [{model}]
datasets: [{dataset}]
batch_sizes: [{sizes}, "${{batch_size}}"]  # all are compared with the first; the last is for -S batch_size=N
batch_size: {first}
seeds: [0, 1, 2]  # fewer than three seeds decide nothing
epochs: {epochs}
train: {{{task}schedule: {{lr_start: 0.05}}}}  # the same at every batch size: tune it first
{images}data: {{files: {{{dataset}: {data}}}{stated}}}
code: {{model: {code}, models: {{{model}: "{source}"}}}}
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "write a study of your own network and data"
    parser = commands.add_parser("new", help=purpose, description=purpose, epilog=EXAMPLE)
    parser.add_argument("study", metavar="NAME", help=f"of the study: {STUDIES}/NAME.yaml is written")
    parser.add_argument("--model", required=True, metavar="PACKAGE.MODULE:CLASS", help="your network, from this folder")
    parser.add_argument(
        "--data", required=True, type=Path, metavar="FILE", help=".npz with x_train, y_train, x_test, y_test"
    )
    size, ends = ("CHANNELS", "HEIGHT", "WIDTH"), ("BLACK", "WHITE")
    parser.add_argument("--shape", type=int, nargs=3, metavar=size, help="of an image, if images are stored flat")
    parser.add_argument("--range", type=float, nargs=2, metavar=ends, help="of images that are not in 0..255: 0 1")
    parser.add_argument("--batch-sizes", type=int, nargs="+", metavar="N", help="smallest first; default: by the data")
    parser.add_argument("--epochs", type=int, default=EPOCHS, metavar="N", help=f"of every run, default {EPOCHS}")
    parser.set_defaults(run=new)


def new(args: Namespace) -> None:
    """Write the study file, and say what it holds and how to run it; a study that could not run leaves no file.

    Raises:
        InputError: an unsafe name, a file that is there already, a network or data that cannot be used, or a batch size
            that the data do not allow.
    """
    CHECKS["study"]("study", args.study)
    path = STUDIES / f"{args.study}.yaml"
    if path.exists():
        raise InputError(f"{path} is there already; take another name, or edit it")
    if not STUDIES.is_dir():
        raise InputError(f"there is no folder {STUDIES}; run from the root of the repository")
    code, dataset = code_of(args.model), dataset_name(args.data)
    stated = {name: {dataset: given} for name, given in (("shapes", args.shape), ("ranges", args.range)) if given}
    data = _read(args.data, dataset, stated)
    train_images = len(data.y_train)
    sizes = args.batch_sizes or default_sizes(train_images)
    text = TEXT.format(
        package=PACKAGE, study=_yaml(args.study), source=args.model, file=args.data.name,
        model=_yaml(model_name(args.model)), dataset=_yaml(dataset), data=_yaml(str(args.data)), code=_yaml(code),
        sizes=", ".join(map(str, sizes)), first=sizes[0], epochs=args.epochs, images=_images(train_images),
        task=f"task: {TASK_OF[data.targets]}, " if data.targets in TASK_OF else "",
        stated="".join(f", {name}: {{{_yaml(dataset)}: {of[dataset]}}}" for name, of in stated.items()),
    )  # fmt: skip
    write_text(path, text)
    try:
        said = _tried(args.study, path, dataset, (data.image_shape, data.classes, train_images))
    except BaseException:
        path.unlink()
        raise
    print(f"{path}: {said}\nnext: gapscope run {args.study} -j 2")


def _read(data: Path, dataset: str, stated: Mapping[str, Any]) -> "Dataset":
    """Return the data as the download stage will write them, so that both take the same files.

    Raises:
        InputError: data that cannot be used.
    """
    from gapscope.data.datasets import load
    from gapscope.data.sources import fetch

    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch) / f"{dataset}.npz"
        fetch(dataset, written, {dataset: str(data)}, **stated)
        return load(written, dataset)


def _tried(study: str, path: Path, dataset: str, size: tuple[tuple[int, ...], int, int]) -> str:
    """Return what the stage `plan` says of a study.

    Raises:
        InputError: it cannot be composed, or the plan refuses it.
    """
    from gapscope.engine import plan

    return plan.check(composed([f"study={study}"], path)[0], dataset, *size)


def code_of(model: str) -> str:
    """Return the file or folder that a network's import path names, in the current folder.

    Raises:
        InputError: it is no import path, or there is no such file.
    """
    if not SOURCE.fullmatch(model):
        raise InputError(f"--model must be an import path, package.module:Class, got {model!r}")
    place = model.partition(":")[0].replace(".", "/")
    found = next((path for path in (f"{place}.py", place) if Path(path).exists()), None)
    if found is None:
        raise InputError(f"--model {model}: there is neither {place}.py nor a folder {place} here")
    return found


def model_name(model: str) -> str:
    """Return a plain name for a network, which file names carry; none of a built-in network, and without a width.

    Example:
        >>> [model_name(path) for path in ("mine.nets:Net_w2", "mine.nets:LeNet5")]
        ['netw2', 'my_lenet5']
    """
    from gapscope.models import MODELS

    name = re.sub("[^a-z0-9]", "", model.partition(":")[2].lower())
    return f"my_{name}" if name in MODELS else name


def dataset_name(data: Path) -> str:
    """Return the name of a data set: that of its file.

    Raises:
        InputError: there is no such file, or its name is unsafe in a path or a command.
    """
    if not data.is_file():
        raise InputError(f"--data {data}: there is no such file")
    if data.suffix != ".npz" or not NAME.fullmatch(data.stem):
        raise InputError(
            f"--data {data}: rename the file; its name must be letters, digits and _, with single . or - between them, "
            "and end in .npz"
        )
    return data.stem


def default_sizes(train_images: int) -> Sequence[int]:
    """Return batch sizes of which the largest leaves two updates per epoch.

    Raises:
        InputError: there are no two of them.
    """
    sizes = [size for size in LADDER if size <= train_images // 2]
    if len(sizes) < 2:
        raise InputError(f"only {train_images} training images: say which batch sizes to compare with --batch-sizes")
    return sizes


def _yaml(text: str) -> str:
    """Return a text as YAML within a list: in quotes if it would else be read as a number or another value."""
    try:
        plain = yaml.safe_load(f"[{text}]") == [text]
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text)


def _images(train_images: int) -> str:
    images = "null" if train_images < SHARPNESS_IMAGES else SHARPNESS_IMAGES
    says = "converged_starts: 0 saves most of its time"
    lines = f"sharpness: {{images: {images}, epsilons: [1.0e-3], precision: float32}}  # {says}\n"
    if train_images < PROBE_IMAGES:
        lines += f"activations: {{probe_images: {train_images}}}\n"
    return lines
