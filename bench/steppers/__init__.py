"""Optimisers in lock step: one evaluation of all functions, one step of each."""

from leakbench.bench.steppers.adam import LockStepAdam
from leakbench.bench.steppers.base import Stepper
from leakbench.bench.steppers.halving import HalvingLBFGS
from leakbench.bench.steppers.lbfgs import LockStepLBFGS

__all__ = ["HalvingLBFGS", "LockStepAdam", "LockStepLBFGS", "Stepper"]
