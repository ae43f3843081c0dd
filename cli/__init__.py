"""The command line: parse, call, show. The library below knows nothing of terminals or exit statuses."""
