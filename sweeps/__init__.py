"""Sweeps: what to run (spec, grid, checks), where (executors), and what is kept (store, runner)."""

EXECUTORS = ("joblib", "dask", "inline")  # here, for the command line: it starts without importing them
