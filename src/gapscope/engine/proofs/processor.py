"""On what a proof was made: the processor's model and its instruction set, or the GPU."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTION_SETS = {"avx512f": "avx512", "avx2": "avx2"}  # flag -> name, best first


def processor() -> str:
    """Return the processor's model and instruction set, e.g. "AMD EPYC 7B13, avx2"; of a GPU its name."""
    if os.environ.get("GAPSCOPE_DEVICE", "cpu").startswith("cuda"):
        from gapscope.runtime import describe_device

        return describe_device(os.environ["GAPSCOPE_DEVICE"])
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.exists() else []
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    best = next((name for flag, name in INSTRUCTION_SETS.items() if flag in known.get("flags", "").split()), "default")
    capped = os.environ.get("ATEN_CPU_CAPABILITY", best)
    return f"{known.get('model name') or platform.processor() or platform.machine()}, {capped}"
