"""The five findings of README.md."""

from gapscope.claims.hypothesis_tests import ENOUGH
from gapscope.drawing import numbers

from .keskar import sharpness_of_f1
from .oyedotun import near_rank_06
from .records import claim, printed
from .words import significance


def findings() -> str:
    """Return the five findings of the README, one line each."""
    rises, trains = claim("table05", "test_error_rises"), claim("table05", "train_cross_entropy_rises")
    law, radius = claim("gao_law", "gradient_power_law"), claim("gao_radius", "eq17_is_the_radius")
    alexnet = claim("gao_alexnet_law", "gradient_power_law")
    unseen, says = claim("table05_new_seeds", "test_error_rises"), printed(5, "test_error_pct")
    decided = significance(unseen) if unseen["n"] >= ENOUGH else "too few to decide"
    certain = unseen["verdict"] == "supported"
    lead = "there, but smaller than printed" if certain else "smaller than printed, and not certain"
    count = {name: f"{value:,.0f}" for name, value in near_rank_06().items()}
    sharp = sharpness_of_f1()
    lines = [
        f"**The gap is {lead}.** For LeNet-5 on Fashion-MNIST, from b = 128 to 8192, it is"
        f" {numbers.effect(rises)}: {significance(rises)}. The paper prints {numbers.signed(says[8192] - says[128])}."
        f" In {unseen['n']:.0f} seeds that nobody had seen it is {numbers.effect(unseen)}: {decided}.",
        f"**Large batches also fit the training images less well.** There the train cross-entropy changes by"
        f" {numbers.effect(trains)}: {significance(trains)}.",
        f"**Gradients do not vanish as 1/√n.** By Gao & Zhong, E|g| falls with the number of images as n^−0.5."
        f" For LeNet-5 on Fashion-MNIST, the exponent of the last doubling, up to all images, is"
        f" {numbers.effect(law).removesuffix(' exponent')}: corrected p = {law['p_corrected']:.2g}. Their own"
        f" network and data are AlexNet and CIFAR-10. There, up to 16,384 of 50,000 images, it is"
        f" {numbers.effect(alexnet).removesuffix(' exponent')}: corrected p = {alexnet['p_corrected']:.2g}. Both are of"
        f" the first dense layer. For LeNet-5 their |w/g| is"
        f" {float(radius['effect']):.1g} times the exact curvature radius: p = {radius['p']:.2g}, not corrected.",
        f"**Nearly all near-rank loss is a matter of shape.** For LeNet-5 on MNIST at b = 8192, {count['structural']}"
        f" of {count['full']} tiny singular values of the activations are zero by matrix shape alone. Of the"
        f" {count['excess']} others, {count['untrained']} are there before training.",
        f"**Large batches end in sharper minima.** For the network F1 on MNIST, sharpness grows by factors of"
        f" {sharp['f1_low']} to {sharp['f1_high']}; {sharp['f1_supported']} of eight measures are significant. The"
        f" change of the test error: {significance(claim('keskar_table3', 'test_error_rises'))}.",
    ]
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
