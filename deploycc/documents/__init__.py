"""Every file that the tool writes or reads back: one strict model each, and the digests that tie them together."""
