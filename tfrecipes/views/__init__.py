"""What to look at: plots, the report, the summary."""
