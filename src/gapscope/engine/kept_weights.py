"""Trained weights that are in git, in the folder `weights/`: a DVC remote, from which a clone takes them."""

import subprocess
import sys
from pathlib import Path

from gapscope.engine import locks

STORE = Path("weights/files/md5")


def fetch() -> None:
    """Bring the weights of the current study that are in git and not here, so that they are not trained again."""
    trained = [entry for name, entry in locks.read(locks.LOCK).items() if name.startswith("train@")]
    outs = [out for entry in trained for out in entry["outs"]]
    absent = [out["path"] for out in outs if not Path(out["path"]).exists() and _held(out["md5"])]
    if absent:
        print(f"weights of {len(absent)} trained networks are in git: dvc pull", flush=True)
        subprocess.run([sys.executable, "-m", "dvc", "pull", "--quiet", "--allow-missing", *absent], check=False)


def _held(md5: str) -> bool:
    return (STORE / md5[:2] / md5[2:]).exists()
