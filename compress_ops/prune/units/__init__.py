"""Which units go: what they cost, in parameters, arithmetic and time, and how a share is reached."""
