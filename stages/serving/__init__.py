"""A loaded predictor: load once, ask often."""
