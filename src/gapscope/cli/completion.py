"""`gapscope completion`: a shell's completion of commands, options and studies."""

from typing import Any

from gapscope.cli.study_files import COMPLETE, STUDIES

EXAMPLE = "example: gapscope completion bash"
NAMES = f"$(ls {STUDIES} 2>/dev/null | sed -n 's/[.]yaml$//p')"
PREAMBLE = {  # shell -> the function that lists the studies
    "bash": f'{COMPLETE["bash"]}() {{ compgen -W "{NAMES}" -- "$1"; }}',
    "zsh": f'{COMPLETE["zsh"]}() {{ compadd -- ${{(f)"{NAMES}"}} }}',
}


def add(commands: Any) -> None:
    """Add the command to the parser."""
    purpose = "print a shell's completion script; in bash: source <(gapscope completion bash)"
    parser = commands.add_parser("completion", help=purpose, description=purpose, epilog=EXAMPLE)
    parser.add_argument("shell", choices=[*PREAMBLE])
    parser.set_defaults(run=lambda args: completion(args.shell))


def completion(shell: str) -> None:
    """Print the script."""
    import shtab

    from gapscope import cli

    print(shtab.complete(cli.parser(), shell, preamble=PREAMBLE[shell]))
