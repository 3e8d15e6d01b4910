"""Sub-commands of `atts`, one module each."""
