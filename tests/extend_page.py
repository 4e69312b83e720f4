"""docs/extend.md as a reader follows it: what each section's blocks write, and the commands that it gives."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extend.md").read_text()
BLOCK = re.compile(r"^<!-- (append|file|change): (\S+) -->\n(```+)\w*\n(.*?)^\3$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """What to do with a file."""

    action: str
    path: str
    content: str


def sections() -> dict[str, str]:
    """Return the sections' texts by name. A page within a block of four backticks has headings of its own."""
    outside = re.sub(r"^(````+).*?^\1$", lambda found: found[0].replace("\n#", "\n\0#"), PAGE, flags=re.M | re.S)
    parts = [part.replace("\0", "").partition("\n") for part in outside.split("\n## ")[1:]]
    return {name: text for name, _, text in parts}


def blocks(name: str) -> list[Block]:
    """Return a section's blocks that write files."""
    return [Block(action, path, content) for action, path, _, content in BLOCK.findall(sections()[name])]


def commands(name: str) -> list[list[str]]:
    """Return the commands of a section, split into words."""
    lines = "".join(re.findall(r"^```sh\n(.*?)^```$", sections()[name], re.DOTALL | re.MULTILINE)).splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def examples(name: str) -> list[str]:
    """Return the Python of a section that goes into no file."""
    return re.findall(r"(?<!-->\n)^```python\n(.*?)^```$", BLOCK.sub("", sections()[name]), re.DOTALL | re.MULTILINE)


def follow(name: str, folder: Path) -> list[str]:
    """Do what a section's blocks say, and return the paths touched."""
    for action, path, content in blocks(name):
        file = folder / path
        if action == "file":
            assert not file.exists(), path
            file.parent.mkdir(exist_ok=True)
            file.write_text(content)
        elif action == "append":
            file.write_text(file.read_text() + content)
        else:
            file.write_text(changed(file.read_text(), content))
    return [block.path for block in blocks(name)]


def changed(text: str, diff: str) -> str:
    """Return a text after a diff, whose hunks begin with a line `@@` and have no line numbers."""
    for hunk in diff.removeprefix("@@\n").split("\n@@\n"):
        lines = [line or " " for line in hunk.rstrip("\n").split("\n")]
        old, new = ("".join(f"{line[1:]}\n" for line in lines if line[0] in f" {sign}") for sign in "-+")
        assert f"\n{text}".count(f"\n{old}") == 1, f"not there once:\n{old}"
        text = f"\n{text}".replace(f"\n{old}", f"\n{new}")[1:]
    return text
