"""For the documentation site: a docstring's section `Example:` is one of examples, which griffe calls `Examples:`."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):  # type: ignore[misc]  # unknown where griffe is not installed
    """Renames the section in every docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of one object."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
