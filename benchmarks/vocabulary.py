"""Peak memory and time of products with the Hessian and the Gauss-Newton matrix, over a vocabulary of 50,000 words.

Beside them stands a training step: the gradient of the same sequences. Each is measured in a process of its own, after
a warm-up on one sequence. Peak memory is the growth of the resident set during the call. The training step is measured
twice: with this package's cross-entropy in pieces, and with PyTorch's own.

    python benchmarks/vocabulary.py > benchmarks/vocabulary.md
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from gapscope import seeds
from gapscope.data.tokens import Tokens, random_tokens
from gapscope.models.gpt import GPT
from gapscope.tasks.language_model import LanguageModel
from gapscope.training.objective import Objective

WORDS, LENGTH, SEQUENCES = 50_000, 128, 6
TARGETS = {"memory": 2.0, "time": 3.0}  # of the Gauss-Newton product, against a training step
CALLS = ("step", "plain step", "hvp", "gnvp")


def call(name: str, model: GPT, tokens: Tokens) -> Callable[[], object]:
    """Return what is measured."""
    if name == "plain step":

        def step() -> None:
            logits = model(tokens.inputs(slice(None)))
            cross_entropy(logits.flatten(0, 1), tokens.targets(slice(None)).flatten()).backward()

        return step
    objective = Objective(model, tokens, micro_batch=SEQUENCES, dtype=torch.float32, task=LanguageModel())
    x = objective.weights()
    v = torch.randn(len(x), generator=seeds.generator("benchmark"))
    if name == "step":
        return lambda: objective.value_and_gradient(x, with_gradient=True)
    return lambda: getattr(objective, name)(x, v)


def peak_bytes() -> int:
    """Return the largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(name: str) -> dict[str, float]:
    """Return peak bytes and seconds of a call in this process, of the processor: load does not count."""
    torch.set_num_threads(1)
    with seeds.seeded(0, "benchmark"):
        model = GPT((LENGTH,), WORDS, layers=3, units=96, heads=4)
    tokens = random_tokens(SEQUENCES, LENGTH, WORDS, seeds.generator("benchmark", "tokens"), "cpu")
    call(name, model, tokens.subset(torch.arange(1)))()
    run, before, start = call(name, model, tokens), peak_bytes(), time.process_time()
    run()
    return {"bytes": peak_bytes() - before, "seconds": time.process_time() - start}


def main() -> None:
    """Measure each call in a process of its own and print a table."""
    found = {name: json.loads(subprocess.check_output([sys.executable, __file__, name])) for name in CALLS}
    print(f"# Vocabulary of {WORDS:,} words\n")
    print(f"`gpt_tiny` with {SEQUENCES} sequences of {LENGTH} tokens, float32, one core, torch {torch.__version__}.\n")
    print("| call | peak MB | times a step | processor seconds | times a step |\n|---|---|---|---|---|")
    base = found["step"]
    for name, of in found.items():
        ratios = of["bytes"] / base["bytes"], of["seconds"] / base["seconds"]
        print(f"| {name} | {of['bytes'] / 1e6:.0f} | {ratios[0]:.2f} | {of['seconds']:.2f} | {ratios[1]:.2f} |")
    print(f"\nTargets of gnvp: at most {TARGETS['memory']:g} times the memory and {TARGETS['time']:g} times the time.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
