"""Flower: `from leakbench.flower import defend, Recording, RecordingSum`. See docs/FEDERATION.md."""

from leakbench.federation.flower import Recording as Recording
from leakbench.federation.flower import defend as defend
from leakbench.federation.flower_sum import RecordingSum as RecordingSum
