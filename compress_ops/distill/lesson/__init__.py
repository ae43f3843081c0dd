"""What a student learns from: the teacher, the samples, the targets, and the task made of them."""
