"""Records in; tables and figures out. No torch: a figure is redrawn in a second."""
