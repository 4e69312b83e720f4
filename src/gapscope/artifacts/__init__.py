"""Files that pass between stages: one module a format; written whole or not at all, checked when read."""
