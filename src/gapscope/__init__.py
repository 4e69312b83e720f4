"""gapscope: an instrument for the generalization gap of large-batch training.

The library's functions are imported when they are first used, so that `import gapscope` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gapscope.library.hessian import hessian as hessian
    from gapscope.library.near_rank import near_rank as near_rank
    from gapscope.library.noise_scale import noise_scale as noise_scale
    from gapscope.library.objective import Objective as Objective
    from gapscope.library.sharpness import sharpness as sharpness
    from gapscope.library.spectra import spectra as spectra
    from gapscope.library.study import load as load

__version__ = "0.2.0"
__all__ = ["Objective", "hessian", "load", "near_rank", "noise_scale", "sharpness", "spectra"]

# the folder is not in these names: else every stage, which imports this package, would seem to run the library's code
_MODULES = {name: name for name in __all__} | {"load": "study", "Objective": "objective"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".library.{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
