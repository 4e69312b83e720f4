"""Oyedotun et al. 2022: printed tables, beside what was measured."""
