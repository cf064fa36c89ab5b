"""Times on this machine: what ran, networks timed in turns, and costs of convolutions."""
