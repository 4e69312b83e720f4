"""Optimisers by name or import path, and schedules of the learning rate and the batch size with exact ends."""
