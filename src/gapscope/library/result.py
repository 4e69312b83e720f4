"""What the results of all functions share: they print as a sentence and become a table."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd


class Result:
    """A frozen dataclass; `str` gives what it says."""

    def __repr__(self) -> str:
        return str(self)

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of the table: one row of all fields, unless a result has a table of its own."""
        yield {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def to_frame(self) -> "pd.DataFrame":
        """Return the result as a table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))
