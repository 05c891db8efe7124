"""What two or more stages use: params, paths, sources, data, model, scoring, artefacts, run."""
