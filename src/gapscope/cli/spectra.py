"""`gapscope spectra`: the near-rank table of any tensor."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapscope.errors import InputError
from gapscope.runtime import pick_device

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

EXAMPLE = "example: gapscope spectra activations.npy --threshold 1e-4"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "count near-zero singular values of every unfolding of any tensor"
    parser = commands.add_parser("spectra", help=purpose, description=purpose, epilog=EXAMPLE)
    parser.add_argument("file", type=Path, metavar="FILE", help=".npy, .npz or .safetensors")
    parser.add_argument("--threshold", type=float, nargs="+", default=[1e-4, 1e-5], help="default: 1e-4 1e-5")
    parser.add_argument("--relative", type=float, nargs="+", default=[], help="parts of each mode's largest value")
    parser.add_argument("--method", default="certified", help="certified (default), qr, tensorly")
    parser.set_defaults(run=lambda args: spectra(args.file, args.threshold, args.relative, args.method))


def spectra(file: Path, thresholds: list[float], relative: list[float], method: str) -> None:
    """Print the near-rank table of every tensor in a file.

    A count is followed by the interval that the error bounds leave, where that is wider than the count, and by a
    question mark where it is too wide for use.

    Raises:
        InputError: no tensor to be measured, or a value that no spectrum has.
    """
    import numpy as np
    import pandas as pd

    from gapscope.numerics.hosvd.effective_ranks import effective_ranks
    from gapscope.numerics.hosvd.near_rank import NearRank, near_rank_count
    from gapscope.numerics.hosvd.singular_values import mode_singular_values
    from gapscope.records.tensors import read_tensors

    def counted(found: NearRank) -> str:
        interval = "" if found.certain == found.possible else f" [{found.certain}, {found.possible}]"
        return f"{found.economy}{interval}{' ?' if found.undecidable else ''}"

    rows, left_out = [], []
    for name, tensor in read_tensors(file):
        if why := _unfit(tensor):
            left_out.append(f"{name} ({why})")
            continue
        try:
            modes = mode_singular_values(tensor, method=method, device=pick_device())
            counts = {f"<= {t:g}": near_rank_count(modes, t) for t in thresholds}
            counts |= {f"<= {t:g} of largest": near_rank_count(modes, t, relative=True) for t in relative}
        except ValueError as error:
            raise InputError(f"{name}: {error}") from error  # a setting: fit tensors have spectra
        for mode, (spectrum, ranks) in enumerate(zip(modes, effective_ranks(modes), strict=True)):
            bound = np.max(spectrum.error_bound)
            rows.append(
                {"tensor": name, "mode": mode, "size": spectrum.size, "structural": spectrum.structural}
                | {"values": len(spectrum.values)}
                | {label: counted(found[mode]) for label, found in counts.items()}
                | {"largest": spectrum.values[0], "smallest": spectrum.values[-1], "error": bound}
                | {"stable rank": ranks.stable_rank, "effective rank": ranks.effective_rank}
                | {"condition": ranks.condition_number, "method": spectrum.method}
            )
    if not rows:
        without = f": {', '.join(left_out)}" if left_out else ""
        raise InputError(f"{file} holds no tensor of finite real numbers with two or more axes{without}")
    if left_out:
        print(f"left out: {', '.join(left_out)}")
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.4g"))


def _unfit(tensor: "Tensor | np.ndarray") -> str:
    """Return why a tensor has no spectra; empty where it has."""
    import numpy as np
    import torch

    if len(tensor.shape) < 2:
        return "fewer than two axes"
    if 0 in tensor.shape:
        return "empty"
    if isinstance(tensor, np.ndarray):
        if tensor.dtype.kind not in "buif":
            return f"{tensor.dtype}, no real numbers"
        return "" if tensor.dtype.kind != "f" or bool(np.isfinite(tensor).all()) else "not finite"
    if tensor.is_complex():
        return f"{tensor.dtype}, no real numbers"
    return "" if bool(torch.isfinite(tensor.float()).all()) else "not finite"
