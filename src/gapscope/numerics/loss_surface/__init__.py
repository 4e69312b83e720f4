"""The loss around given weights: sharpness, curvature, landscape, gradient noise."""
