"""From tasks to trained weights: the meta-training loop, its checkpoints, its log, several processes."""
