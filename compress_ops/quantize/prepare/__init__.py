"""What is done to a float model so that it quantizes better: smoothing, equalization."""
