"""What each operator does to channels, one file a family of operators; `table` lists them."""
