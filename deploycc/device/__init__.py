"""Where engines are built and measured: this machine, later boards over ssh."""
