"""Files that pass between stages: one module per format; written whole or not at all, checked when read."""
