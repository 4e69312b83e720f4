"""Which code made a result: old and present code side by side, recomputed cells, and what was proved when."""
