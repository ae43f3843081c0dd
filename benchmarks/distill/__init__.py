"""What a training step costs, beside PyTorch's: time, memory and the error of its gradients, on four nets."""
