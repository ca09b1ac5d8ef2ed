"""Interactive figures of the book, one file each beside its script."""
