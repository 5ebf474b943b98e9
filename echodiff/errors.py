"""Error that the user can fix."""


class InputError(ValueError):
    """Something the user gave is wrong; the message is one line that names the flag or file."""
