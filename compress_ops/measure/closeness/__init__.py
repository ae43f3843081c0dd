"""How close outputs are to those of the original, without labels."""
