"""Tensors in, tensors out: schedules, decay rules, norms, losses, averages, telemetry."""

import keras as keras  # first, so that registering our classes never meets a half-imported room
