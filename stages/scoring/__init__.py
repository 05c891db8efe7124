"""From a model and rows to probabilities, figures and significance."""
