"""A run and seeds -> images, and images edited by a run."""
