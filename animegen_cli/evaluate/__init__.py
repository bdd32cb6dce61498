"""Who judges a run, on which images, against which reference."""
