"""Training: one loop, callbacks around it, Ray Train and DeepSpeed underneath, checkpoints in object storage."""
