"""Gao & Zhong, "Study on the large batch size training of neural networks based on the second order gradient"."""

from gapscope.papers.paper import Paper

PAPER = Paper("gao_zhong")
