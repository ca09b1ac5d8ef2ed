"""The families, one a file: each is two functions, `adapt` and `predict`, and a loss."""
