"""What each choice for each layer costs: exact bytes, measured seconds, and how far the outputs move."""
