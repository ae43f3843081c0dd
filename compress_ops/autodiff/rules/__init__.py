"""Gradient rules, one file a family of operators: `table` in the folder above finds every ``Rule`` in these files."""
