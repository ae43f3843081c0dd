"""What gives accuracy back to a quantized model: float layers, corrected biases, learned rounding."""
