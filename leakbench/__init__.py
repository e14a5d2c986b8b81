"""LeakBench: what the strongest attacker gets out of a shared gradient, and what a defense costs.

Whatever an author of defenses, attacks, models, datasets or protocols needs is imported from here.
"""

import os
from pathlib import Path

import lazy_loader

# MKL's sums depend on where in memory a vector lies unless it is told not to let them: a trial's
# numbers must not depend on its slot in a batch. Read by MKL at its first use; costs nothing measurable.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")

if not (Path(__file__).parent / "bench").is_dir():  # a checkout: the other folders lie beside this one
    __path__.append(str(Path(__file__).parent.parent))

# the names in __init__.pyi, each imported at its first use: `leakbench --help` does not load PyTorch
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
