"""`gapscope completion`: a shell's completion of commands, options, studies and files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapscope.cli.study_files import COMPLETE, STUDIES

if TYPE_CHECKING:
    from argparse import ArgumentParser

EXAMPLE = "example: gapscope completion bash"
NAMES = f"$(ls {STUDIES} 2>/dev/null | sed -n 's/[.]yaml$//p')"
PREAMBLE = {  # shell -> the function that lists the studies
    "bash": f'{COMPLETE["bash"]}() {{ compgen -W "{NAMES}" -- "$1"; }}',
    "zsh": f'{COMPLETE["zsh"]}() {{ compadd -- ${{(f)"{NAMES}"}} }}',
}


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "print a shell's completion script, for eval in .bashrc, or in .zshrc after compinit"
    parser = commands.add_parser("completion", help=purpose, description=purpose, epilog=EXAMPLE)
    parser.add_argument("shell", choices=[*PREAMBLE])
    parser.set_defaults(run=lambda args: completion(args.shell))


def completion(shell: str) -> None:
    """Print the script."""
    import shtab

    from gapscope import cli

    print(shtab.complete(_for_shtab(cli.parser()), shell, preamble=PREAMBLE[shell]))


def _for_shtab(whole: "ArgumentParser") -> "ArgumentParser":
    """Return the parser with what shtab writes into a script: short menus, no colon that zsh reads, and files."""
    import shtab

    [commands] = (action.choices for action in whole._actions if isinstance(action.choices, dict))
    for command in commands.values():
        command.description = None  # the menu of commands then shows the line of `gapscope --help`
        action: Any
        for action in command._actions:
            action.metavar = None  # shtab quotes no colon in it, and zsh would run what follows
            if action.type is Path:
                action.complete = shtab.FILE
    return whole
