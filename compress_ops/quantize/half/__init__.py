"""float16: which operators take it, which values fit it, and what is written."""
