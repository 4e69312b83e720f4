"""Learning-rate schedules, one rate an update, with both ends exact."""

import math


def cosine(start: float, end: float, updates: int) -> list[float]:
    """Return `updates` rates on half a cosine: the first is `start`, the last is `end`.

    Oyedotun et al. 2022, section 5.2, anneal 0.1 to 1e-4 and do not give the shape: cosine per update is our choice.

    Example:
        >>> [round(rate, 4) for rate in cosine(1.0, 0.0, 3)]
        [1.0, 0.5, 0.0]
    """
    last = max(updates - 1, 1)
    rates = [end + (start - end) * (1 + math.cos(math.pi * step / last)) / 2 for step in range(updates)]
    # end + (start - end) need not round to start
    return [start, *rates[1:-1], end] if updates > 1 else [start][:updates]
