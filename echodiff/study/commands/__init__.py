"""Actions of `echodiff study`, one module each."""
