"""What the book draws: plots, source listings, and figures that move."""
