"""What git knows of this folder: the one place that calls it."""

import subprocess


def git(*arguments: str) -> str:
    """Return what a git command prints; empty where it fails, or there is no git."""
    return git_bytes(*arguments).decode("utf-8", errors="surrogateescape")  # names of files are any bytes


def git_bytes(*arguments: str) -> bytes:
    """Return what a git command prints, as bytes: for a file's content, or an archive."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError:  # a bare machine
        return b""
    return done.stdout if done.returncode == 0 else b""
