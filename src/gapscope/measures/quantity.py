"""What a measure gives: the name of a quantity stands in a dict, everything else about it here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """One quantity of a measure.

    Attributes:
        label: its name for readers.
        unit: of its values; empty for a pure number.
        axes: the columns that tell its values apart, beside those of the run.
        better: "lower" or "higher"; None where neither is better.
    """

    label: str
    unit: str
    axes: tuple[str, ...]
    better: str | None
