"""The functions that `import gapscope` offers, one module each. They call the pipeline's numerics on a caller's model.

Precision is float64 by default, also for a float32 model. Every function that draws random numbers takes `seed`, 0 by
default. A model is as it was after the call: weights, gradients, mode and `requires_grad`.
"""
