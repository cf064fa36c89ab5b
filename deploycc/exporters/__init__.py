"""Writing a compiled detector in the format that a target's builder reads."""
