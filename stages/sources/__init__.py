"""From a name in params.yaml to files on disk: catalogue, package index, Hub, folders."""
