"""Write examples/noisy_digits.npz, scikit-learn's digits in noisy copies: stands for whatever makes your data."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

COPIES, NOISE, SEED = 5, 90.0, 0  # standard deviation of the noise, of 255


def main() -> None:
    """Write uint8 images (N, 8, 8) and integer labels; copies of a digit are all in one part."""
    digits = load_digits()
    images = (digits.images * (255 / 16)).repeat(COPIES, axis=0)
    noisy = np.random.default_rng(SEED).normal(images, NOISE).clip(0, 255).round().astype(np.uint8)
    train, test = train_test_split(
        np.arange(len(digits.target)), test_size=0.25, random_state=SEED, stratify=digits.target
    )
    arrays = {}
    for name, part in (("train", train), ("test", test)):
        rows = (COPIES * part[:, None] + np.arange(COPIES)).ravel()
        arrays |= {f"x_{name}": noisy[rows], f"y_{name}": digits.target.repeat(COPIES)[rows]}
    np.savez_compressed(Path(__file__).with_name("noisy_digits.npz"), **arrays)


if __name__ == "__main__":
    main()
