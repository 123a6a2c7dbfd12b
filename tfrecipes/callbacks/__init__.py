"""Thin handles by which a capability plugs into model.fit."""
