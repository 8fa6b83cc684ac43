"""Where what was learned of the limits lives."""
