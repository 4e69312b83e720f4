"""Keskar et al. 2017: printed tables, beside what was measured."""
