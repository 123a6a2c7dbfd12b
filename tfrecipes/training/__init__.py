"""Around the step: data order, devices, targets, checkpoints."""
