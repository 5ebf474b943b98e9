"""What every training loop needs: precision, checkpoints, trackers."""
