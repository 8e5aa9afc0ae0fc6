"""The one error that users are meant to read."""


class UserError(Exception):
    """Bad input: the message is one sentence that names the file, key or value, and the mend.

    The command line prints it without a traceback and exits with status 2.
    """
