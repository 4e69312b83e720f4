"""One folder per paper: its printed tables as data."""
