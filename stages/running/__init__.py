"""How a stage or a command starts and ends: environment, locks, disk, DVC's files, processes."""
