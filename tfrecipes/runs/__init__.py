"""The run folder: every file of a run is read and written here. No Keras here."""
