"""Search for best-matching units: exact, in bounded memory, by the fastest matrix products."""
