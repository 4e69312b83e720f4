"""Training at any batch size: settings, the loop, one batch's gradient, ranks, evaluation, rates by batch size."""
