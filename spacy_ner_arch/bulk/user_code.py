"""Errors of the code that is given with --code. They are shown with their traceback."""

import traceback

# Name of the module that spaCy makes from --code.
CODE_NAME = "python_code"


def is_of_user(error: BaseException | None) -> bool:
    """Whether an error, or an error that it was raised from, comes from the file that is given with --code."""
    while error is not None:
        if any(frame.f_globals.get("__name__") == CODE_NAME for frame, _ in traceback.walk_tb(error.__traceback__)):
            return True
        error = error.__cause__
    return False


def describe_error(error: Exception) -> str:
    """Message of an error for another process, with the traceback if it comes from the code of the user."""
    if is_of_user(error):
        return "".join(traceback.format_exception(error))
    return str(error) or repr(error)
