"""Reports: read a finished run, make tables and figures; nothing here computes an attack."""
