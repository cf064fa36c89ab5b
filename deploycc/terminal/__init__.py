"""What people see on a terminal, and programs in a pipe. Nothing here knows about commands."""
