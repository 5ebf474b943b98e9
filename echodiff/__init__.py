"""Echocardiogram frames by diffusion and GANs: fine-tune, generate, measure, study.

Importing the package imports nothing else, so that `echodiff --help` answers at once.
"""

import os

# Large pages for torch's tensors on a CPU: a training step of the embedded base takes an eighth
# less. Torch reads this once, when it is imported, which is why it stands here.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"
