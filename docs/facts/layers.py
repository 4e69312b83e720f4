"""Gao & Zhong: gradients, steps and curvature by layer."""

from gapscope.drawing import numbers

from .records import TEST, TRAIN, claim, means
from .words import significance


def layers() -> dict[str, str]:
    """Return what is said of gradients, steps and curvature by layer."""
    named = {
        "law_exponent": "gradient_power_law", "law_falls": "gradient_falls", "law_folded": "folded_normal_law",
        "discarded_small": "discarding_enlarges_gradient", "discarded_large": "large_losses_enlarge_gradient",
        "discarded_mix": "discarding_beyond_class_mix", "step_falls": "first_epoch_stride_falls",
        "area": "stride_area_falls", "path": "path_falls",
    }  # fmt: skip
    of = {
        name: claim("gao_quick" if name in ("discarded_mix", "step_falls", "area", "path") else "gao_law", which)
        for name, which in named.items()
    }
    of |= {
        "radius": claim("gao_radius", "eq17_is_the_radius"), "radius_order": claim("gao_radius", "eq17_orders_layers"),
        "radius_spread": claim("gao_radius", "radii_differ"),
        "law_exponent_alexnet": claim("gao_alexnet_law", "gradient_power_law"),
        "discarded_mix_alexnet": claim("gao_alexnet_law", "discarding_beyond_class_mix"),
        "warmup_spread": claim("gao_warmup", "warmup_evens_radii"),
        "order_trained": claim("gao_no_warmup", "eq17_orders_layers"),
    }  # fmt: skip
    errors = {
        split: means("gao_lenet5", "error_pct", **where)[32] for split, where in (("train", TRAIN), ("test", TEST))
    }
    effects = {name: numbers.effect(row).removesuffix(f" {row['effect_unit']}") for name, row in of.items()}
    said = {"order_verdict": of["order_trained"], "warmup_verdict": of["warmup_spread"]}
    effects |= {name: significance(row) for name, row in said.items()}
    return effects | {f"gao_{split}_error": f"{error:.2f}" for split, error in errors.items()}
