"""The Trainer, checkpoints, sampler and training curves."""

ROWS_TO_CHOOSE = 100  # validation rows; fewer cannot tell one checkpoint from another
