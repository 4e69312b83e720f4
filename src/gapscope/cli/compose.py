"""`gapscope compose`: conf/ -> params.yaml."""

import re
import tempfile
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gapscope.cli.init import warn_of_other_revisions
from gapscope.cli.study_files import check_package, study_file
from gapscope.config import DECLARED, PARAMS, Params, declared_names, load_params, read_yaml
from gapscope.engine import locks
from gapscope.engine.groups import check_groups
from gapscope.errors import InputError, did_you_mean
from gapscope.records.files import write_text
from gapscope.renamed import answer
from gapscope.tasks import check_task

EXAMPLE = "example: gapscope compose study=table05 epochs=30"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = f"write {PARAMS} from {DECLARED.parent}/"
    parser = commands.add_parser("compose", help=purpose, description=purpose, epilog=EXAMPLE)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. study=table05 epochs=30")
    parser.set_defaults(run=lambda args: compose(args.overrides))


def compose(overrides: list[str]) -> None:
    """Compose params.yaml from conf/ exactly as `dvc exp run` does, check it, and put its study's lock in place.

    What is refused changes no file.

    Raises:
        InputError: an override of a param that is not declared, of a value that it cannot have, or no override at all.
    """
    warn_of_other_revisions()
    params, text = composed(overrides)
    locks.mend()
    write_text(PARAMS, text)
    locks.swap(params.study)
    print(f"{PARAMS}: study {params.study}")


def composed(overrides: list[str], source: Path = PARAMS) -> tuple[Params, str]:
    """Compose, by DVC's own function, and return the params and the text of their file; none is written.

    Args:
        overrides: as for `compose`.
        source: the file to name where a value is at fault.

    Raises:
        InputError: as `compose`.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    _check_overrides(overrides)
    folder = str(DECLARED.parent.resolve())
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / PARAMS.name
        try:
            compose_and_dump(str(out), folder, None, DECLARED.stem, _plugins(), overrides)
        except (HydraException, OmegaConfBaseException) as error:
            if own := _own_error(error):
                raise own from None
            known = declared_names()
            # what is added with + is new by intent
            names = [override.partition("=")[0] for override in overrides if not override.startswith(("+", "~"))]
            unknown = [f"unknown param {name!r}; {_hint(name, known)}" for name in names if name not in known]
            lost = re.search(r"Interpolation key '(.*?)' not found", str(error))  # ${...} in a study
            raise InputError(" ".join(unknown) or (lost and answer(lost[1])) or str(error)) from error
        except YAMLError as error:
            raise InputError(f"{source}: {error}") from error
        try:
            params = load_params(out)
            check_groups(params, leave_out=["code"])  # whose class takes seconds to import; its names are checked
            if "train" not in params.groups:
                raise InputError("params have no group 'train'; leave ~train out")
            check_task(params.groups["train"]["task"])
            return params, out.read_text(encoding="utf-8")
        except InputError as error:
            raise InputError(str(error).replace(str(out), str(source))) from error


def _own_error(error: BaseException | None) -> InputError | None:
    """Return the InputError of one of our resolvers (hydra_plugins/), which OmegaConf wraps; None for other errors."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def _plugins() -> str:
    """Return the folder that `dvc exp run` takes Hydra's plugins from, as DVC's config has it."""
    from dvc.config import Config
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        root = Repo.find_root()
    except NotDvcRepoError:
        root = str(DECLARED.parent.parent.resolve())
    config = Config(f"{root}/.dvc", validate=False) if Path(root, ".dvc").is_dir() else {}
    return str(Path(root, config.get("hydra", {}).get("plugins_path") or ""))


def _hint(name: str, known: set[str]) -> str:
    """Return a hint at a declared param: in the same group one whose own name is near, else any."""
    group, _, own = name.partition(".")
    within = {full.rpartition(".")[2]: full for full in known if own and full.startswith(f"{group}.")}
    near = get_close_matches(own.rpartition(".")[2], within, n=1, cutoff=0.5)
    return f"did you mean {within[near[0]]!r}?" if near else did_you_mean(name, known)


def _check_overrides(overrides: list[str]) -> None:
    """Raise InputError, with what to write, if an override has a param's old name or a study that is not there."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException:
        return  # composing says what is wrong with them
    answers = [answer(override.key_or_group, override.value()) for override in parsed]
    if any(answers):
        raise InputError(f"params have new names: {'; '.join(filter(None, answers))}")
    for override in parsed:
        if override.key_or_group == "study":
            path = study_file(str(override.value()))
            check_package(path)
            read_yaml(path)  # Hydra takes numbers such as 010


def with_study(study: str | None, overrides: list[str]) -> list[str]:
    """Return the overrides of a study, as `dvc exp run -S` takes them; without one, of the study in params.yaml.

    Raises:
        InputError: a study given twice, or a param of another file.
    """
    from dvc.utils.cli_parse import to_path_overrides

    files = to_path_overrides(overrides)
    own: list[str] = files.pop(str(PARAMS), [])
    if files:
        raise InputError(f"-S sets params of {PARAMS} here, not of {', '.join(files)}: take dvc exp run for those")
    named = any(override.partition("=")[0] == "study" for override in own)
    if study and named:
        raise InputError(f"the study is given twice, as {study} and with -S; give it once")
    if not named:
        own = [f"study={study or load_params().study}", *own]
    return own
