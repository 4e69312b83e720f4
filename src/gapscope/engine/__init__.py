"""Bringing a study up to date: checks and costs beforehand, several stages at once, DVC's locks."""
