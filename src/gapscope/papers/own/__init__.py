"""Claims that are in no paper: controls, and questions that the papers leave open."""

from gapscope.papers.paper import Paper

PAPER = Paper("own")
