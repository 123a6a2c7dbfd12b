"""What to set: the learning-rate finder and the batch finder."""
