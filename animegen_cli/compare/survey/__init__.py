"""People as judges: a page that asks which of two pictures is better, and what a pile of its answers says."""
