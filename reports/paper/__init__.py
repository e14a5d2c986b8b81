"""The figures and tables of the DLG paper, from the runs of sweeps/paper, compared with its values."""
