"""gapscope: an instrument for the generalization gap of large-batch training."""

__version__ = "0.2.0"
