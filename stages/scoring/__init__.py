"""From a model and rows to probabilities, scores and predictions."""
