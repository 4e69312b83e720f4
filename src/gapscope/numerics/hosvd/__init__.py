"""Singular values of every unfolding of a tensor (HOSVD), and what is counted in them."""
