"""The host's side of the agent: packing it into one file, running it, and reading what it says."""
