"""Keskar et al. 2017, "On large-batch training for deep learning: generalization gap and sharp minima"."""

from gapscope.papers.keskar2017 import tables
from gapscope.papers.paper import Paper

PAPER = Paper("keskar2017", tables.beside, tables.markdown)
