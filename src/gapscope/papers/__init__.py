"""The papers: printed tables, claims, and what each table and figure shows."""
