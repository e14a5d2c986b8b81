"""Optimisers of many functions in lock step: one evaluation of all, then one step of each."""

from leakbench.bench.steppers.adam import LockStepAdam
from leakbench.bench.steppers.base import Stepper
from leakbench.bench.steppers.halving import HalvingLBFGS
from leakbench.bench.steppers.lbfgs import LockStepLBFGS

__all__ = ["HalvingLBFGS", "LockStepAdam", "LockStepLBFGS", "Stepper"]
