"""The error class for everything a user can mend."""


class UserError(ValueError):
    """A mistake the user can mend; the message is one sentence: the value, what was expected, what to do.

    The tools print it without a traceback and exit with a non-zero status.
    """
