"""Training of models whose weights are quantized already: what is trained in their place, and the way back."""
