"""Measures: what each one runs on, its settings and its records."""
