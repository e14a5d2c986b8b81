"""The figures and tables of the DLG paper, from the runs of sweeps/paper, beside what it reports."""
