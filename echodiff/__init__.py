"""Echocardiogram frames by diffusion and GANs: fine-tune, generate, measure, study.

Importing the package imports nothing else, so that `echodiff --help` answers at once.
"""

__version__ = "0.1.0"
