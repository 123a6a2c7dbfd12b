"""What to do, as data: durations, the recipe's schema, the gallery. No Keras here."""
