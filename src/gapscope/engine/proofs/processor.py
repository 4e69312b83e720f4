"""On what a proof was made: the processor's model and its instruction set, or the GPU."""

import os

from gapscope.records import provenance


def processor() -> str:
    """Return the processor's model and instruction set, e.g. "AMD EPYC 7B13, avx2"; of a GPU its name."""
    if os.environ.get("GAPSCOPE_DEVICE", "cpu").startswith("cuda"):
        from gapscope.runtime import describe_device

        return describe_device(os.environ["GAPSCOPE_DEVICE"])
    found = provenance.processor()
    return f"{found['processor']}, {os.environ.get('ATEN_CPU_CAPABILITY', found['instructions'])}"
