"""A loaded predictor: load once, ask often; and the server that asks it, in http/."""
