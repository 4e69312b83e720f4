"""Figure primitives: axes, colours, numbers as a reader sees them, SVG. Knows no measure."""
