"""Side-by-side measurements against other libraries and against the machine's limit."""
