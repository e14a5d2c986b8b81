"""The verbs of the command line. Each file has `add(verbs)`, which adds its options and handlers.

Handlers import what they need when called, so that `--help` and typing errors answer at once.
"""

USER_ERROR = 2  # exit status: nothing was run; the input has to be changed
TRIALS_FAILED = 1  # exit status: the sweep is done, but some of its rows are errors
STOPPED = 3  # exit status: the sweep stopped early; finished trials are stored
BROKEN_PIPE = 141  # exit status: the reader of the output has closed it; as shells report it
INTERRUPTED = 130  # exit status: as shells report Ctrl-C
