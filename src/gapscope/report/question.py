"""The question that a study asks, which is the title of its page, and what was run: in words, made of its params.

Two studies that ask the same of the same network differ in something, and the question says in what: what training
changes, how short it is, at which weights is measured, or in which seeds it is repeated.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gapscope.drawing import names
from gapscope.records.cells import WIDENED

Params = Mapping[str, Any]

PLAIN = "Does {who} lose accuracy at large batch{when}?"
REMEDY = "Does {remedy} close the large-batch gap of {who}{when}?"
REMEDIES = {  # arm -> what is done about the gap
    "equal_updates": "making as many updates at every batch size",
    "longer": "longer training",
    "tuned_rate": "a learning rate tuned for each batch size",
    "scaled_rate": "a learning rate that grows with the batch size",
    "switching": "switching to a small batch",
    "width": "a wider network",
    "warmstart": "a small-batch start",
    "warmup": "a learning rate that rises at first",
    "discarding": "discarding samples of small loss",
    "discarding_control": "a control of discarding",
    "first_epoch": "a first epoch at a small batch and rate",
    "first_epoch_control": "one part of such a first epoch",
    "layerwise": "a learning rate for each layer",
    "mclr": "MCLR",
}
OTHERWISE = {  # arm whose claim is not about the gap -> its question, and the measure that answers it
    "warmup": (
        "Does a learning rate that rises at first make the curvature of the layers of {who} more alike?",
        "curvature_radius",
    ),
}
QUESTIONS = (  # measure that a study takes, its question, and the measure that answers it; the first one counts
    ("random_matrices", "Do the printed tables of random matrices hold?", "random_matrices"),
    ("landscape", "Does {who} end in sharper minima at large batch{when}?", "sharpness"),
    ("near_rank", PLAIN, "evaluation"),
    (
        "gradient_law",
        "Does the mean gradient of {who} shrink with the batch size as noise would{when}?",
        "gradient_law",
    ),
    ("curvature_radius", "Does |w/g| order the layers of {who} by their curvature{when}?", "curvature_radius"),
    ("sharpness", "Does {who} end in sharper minima at large batch{when}?", "sharpness"),
)
SHORT = 20  # epochs: a gap after so few may be one of training that has not ended, so the question says it
DISCARDED = {  # train.discard.by -> the samples that are discarded
    "small_loss": "samples of small loss",
    "class_mix": "random samples with the class mix of small losses",
    "within_class": "the samples of small loss of each class",
    "random": "random samples",
}


def question(params: Params) -> str:
    """Return a study's question; empty where it has no params, or no network to ask about."""
    text, measure = _asked(params)
    if not params or ("{who}" in text and not params.get("models")):
        return ""
    return text.format(who=_who(params) if "{who}" in text else "", when=_when(params, measure))


def answering(params: Params) -> str:
    """Return the measure that answers a study's question."""
    return _asked(params)[1]


def arm(params: Params) -> str:
    """Return what a study changes besides the batch size: its param `claims.arm`."""
    return str((params.get("claims") or {}).get("arm", "plain"))


def remedy(params: Params) -> str:
    """Return what a study does about the gap, in words."""
    words, train = REMEDIES.get(changed := arm(params), changed.replace("_", " ")), params.get("train") or {}
    switches = (train.get("schedule") or {}).get("batch_schedule") or []
    if changed == "switching" and switches:
        return f"{words} after epoch {switches[0]['epoch'] - 1}"
    if changed == "layerwise" and (name := (train.get("optimizer") or {}).get("name")):
        return f"{words} ({str(name).replace('_', ' ')})"
    if changed == "discarding_control" and (discard := train.get("discard")):
        return f"discarding {DISCARDED[discard['by']]}{' at the usual rate' if discard['mean'] == 'batch' else ''}"
    if changed == "discarding_control" and switches:
        return "the larger rate that discarding amounts to"
    return words


def networks(models: Iterable[str], params: Params) -> str:
    """Return networks with what a study's params change of them, in words."""
    return names.varied(names.listed(map(names.network, models)), params.get("train") or {})


def run(params: Params) -> str:
    """Return what was run, in words; empty where no network is trained at batch sizes."""
    sizes = sorted(set(params.get("batch_sizes", ())))
    if not sizes:
        return ""
    count = len(params["seeds"])
    batches = f"batch sizes {sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"batch size {sizes[0]}"
    return f"{batches}, {names.counted(count, 'seed')}, {length(params)}"


def length(params: Params) -> str:
    """Return the length of each run: in updates where these are fixed, else in epochs."""
    plan = (params.get("train") or {}).get("schedule") or {}
    if plan.get("updates"):
        return names.counted(plan["updates"], "update")
    return ("at most " if plan.get("patience") else "") + names.counted(params["epochs"], "epoch")


def _asked(params: Params) -> tuple[str, str]:
    """Return a study's question with places for its networks and for when, and the measure that answers it."""
    taken = params.get("measures", ())
    if (changed := arm(params)) in OTHERWISE:
        return OTHERWISE[changed]
    if changed != "plain":
        text = REMEDY.replace("{remedy}", remedy(params))
        return text, "warm_start" if "warm_start" in taken else "evaluation"
    return next(((text, answers) for name, text, answers in QUESTIONS if name in taken), (PLAIN, "evaluation"))


def _who(params: Params) -> str:
    """Return the networks and data sets of a study, in words."""
    models = dict.fromkeys(found["name"] if (found := WIDENED.fullmatch(name)) else name for name in params["models"])
    augmented = " with augmentation" if (params.get("train") or {}).get("augment") else ""
    return f"{networks(models, params)} on {names.listed(map(names.dataset, params['datasets']))}{augmented}"


def _when(params: Params, measure: str) -> str:
    """Return at which weights, after how short a training or in which seeds a question is asked; empty if as usual."""
    if own := WEIGHTS.get(measure):
        return own(params)
    if arm(params) == "plain" and "epochs" in params and params["epochs"] <= SHORT:
        return f", in {length(params)}"
    seeds = params.get("seeds") or [0]
    return "" if 0 in seeds else f", in {_span(seeds)}"


def _span(seeds: Sequence[int]) -> str:
    """Return seeds in words.

    Example:
        >>> _span([3, 4, 5]), _span([3]), _span([3, 7])
        ('seeds 3 to 5', 'seed 3', 'seeds 3 and 7')
    """
    first, last = min(seeds), max(seeds)
    if len(seeds) > 2 and last - first == len(seeds) - 1:
        return f"seeds {first} to {last}"
    return f"seed{'s' if len(seeds) > 1 else ''} {names.listed(map(str, seeds))}"


def _of_short_training(params: Params) -> str:
    """Return after which epochs of its short training the gradient law is measured."""
    first, *later = sorted((params.get("gradient_law") or {}).get("epochs") or [0])
    after = f"after epoch{'s' if len(later) > 1 else ''} {names.listed(map(str, later))}" if later else ""
    return ", " + " and ".join(filter(None, ["before training" if first == 0 else f"after epoch {first}", after]))


def _of_states(params: Params) -> str:
    """Return the weights at which curvature radii are measured."""
    states = (params.get("curvature_radius") or {}).get("states") or []
    after = f"after {length(params)}"
    return f", before training and {after}" if "initial" in states else f", {after}"


WEIGHTS: Mapping[str, Callable[[Params], str]] = {  # measure -> the weights at which it is taken
    "gradient_law": _of_short_training,
    "curvature_radius": _of_states,
}
