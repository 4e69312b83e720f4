"""Scripts that carried committed records from one form to another."""
