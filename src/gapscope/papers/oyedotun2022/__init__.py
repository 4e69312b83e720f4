"""Oyedotun et al. 2022, on the generalization gap of deep neural networks trained with large batch sizes."""

from gapscope.papers.oyedotun2022 import tables
from gapscope.papers.paper import Paper

PAPER = Paper("oyedotun2022", tables.beside, tables.markdown, tables.figure_values)
