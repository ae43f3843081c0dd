"""Forms that data comes in, one file each; `table` lists them."""
