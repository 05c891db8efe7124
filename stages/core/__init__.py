"""What all other folders use and that knows no subject: errors, paths, params, artefacts."""
