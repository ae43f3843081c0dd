"""What the trainer is made of: settings, schedules, optimizers, flat buffers, the session of a step, checkpoints."""
