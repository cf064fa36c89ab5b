"""From a compiled network to a build plan."""
