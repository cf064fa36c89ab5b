"""Writing a compiled detector in the format a target's builder reads."""
