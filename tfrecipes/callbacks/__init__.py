"""Thin handles by which a capability plugs into model.fit."""

import keras as keras  # first, so that registering our classes never meets a half-imported room
