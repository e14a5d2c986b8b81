"""Sweeps: what to run (spec, grid, checks), where (executors), and what is kept (store, runner)."""
