"""Tensors in, tensors out: schedules, decay rules, norms, losses, averages, telemetry."""
