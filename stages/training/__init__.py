"""The Trainer, checkpoints, sampler and training curves."""
