"""The hardware that a proof ran on: the processor's model and instruction set, or the GPU."""

import os

from gapscope.records import provenance


def processor() -> str:
    """Return the processor's model and instruction set, e.g. "AMD EPYC 7B13, avx2", or the name of the GPU."""
    if os.environ.get("GAPSCOPE_DEVICE", "cpu").startswith("cuda"):
        from gapscope.runtime import describe_device

        return describe_device(os.environ["GAPSCOPE_DEVICE"])
    cpu = provenance.processor()
    return f"{cpu['processor']}, {os.environ.get('ATEN_CPU_CAPABILITY', cpu['instructions'])}"
