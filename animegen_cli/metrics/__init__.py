"""From features to scores: pure functions, and the networks that make features."""
