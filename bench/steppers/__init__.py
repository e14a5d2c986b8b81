"""Optimisers in lock step: one evaluation of all functions, one step of each."""

from bench.steppers.adam import LockStepAdam
from bench.steppers.base import Stepper
from bench.steppers.halving import HalvingLBFGS
from bench.steppers.lbfgs import LockStepLBFGS

__all__ = ["HalvingLBFGS", "LockStepAdam", "LockStepLBFGS", "Stepper"]
