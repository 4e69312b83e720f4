"""The papers' claims: exact tests, corrections for their number, verdicts."""
