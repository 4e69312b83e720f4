"""Processor seconds of `import gapscope`, beside those of an empty program: each in a process of its own.

Usage: python benchmarks/imports.py
"""

import statistics
import subprocess
import sys
from resource import RUSAGE_CHILDREN, getrusage

REPETITIONS = 5
PROGRAMS = {"an empty program": "pass", "`import gapscope`": "import gapscope", "`import torch`": "import torch"}


def spent() -> float:
    """Return the processor seconds of all processes that have ended."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


for name, program in PROGRAMS.items():
    times = []
    for _ in range(REPETITIONS):
        before = spent()
        subprocess.run([sys.executable, "-c", program], check=True)
        times.append(spent() - before)
    print(f"| {name} | {statistics.median(times):.3f} |")
