"""What the names of a table's columns of sharpness and of counts (`artifacts.columns`) say to a reader."""


def threshold(label: str) -> str:
    """Return a threshold as a reader writes it: of a count's label, such as 0.0001 or 0.001-relative."""
    value, _, relative = label.partition("-relative") if "relative" in label else (label, "", None)
    return f"{float(value):g}{'' if relative is None else ' of the largest'}"


def sharpness(column: str) -> tuple[str, str, str]:
    """Return of sharpness_[SPLIT_]SPACE_EPSILON_pct the split, the space and epsilon."""
    *split, space, epsilon = column.removeprefix("sharpness_").removesuffix("_pct").split("_")
    where = "full space" if space == "full" else f"random manifold, p = {space.removeprefix('random')}"
    return split[0] if split else "train", where, f"{float(epsilon):g}"
