"""From pictures to one clean data set file, and from there to batches."""
