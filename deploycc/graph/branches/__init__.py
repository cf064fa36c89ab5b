"""Gates written as conditional branches: what a branch holds, its condition, and the `If` nodes."""
