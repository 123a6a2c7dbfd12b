"""What is wrong: rules, diagnosis, checks of data and model."""
