"""Half an hour of a GPU machine that is bare: it has no network, no git and no DVC (docs/gpu.md).

At home `prepare` resolves what is to run; there `execute` runs it, several stages at once, and `pack` takes the results
into a few small files; at home again `adopt` checks them and has DVC commit them. `queue` names the order, and
estimates the time.
"""
