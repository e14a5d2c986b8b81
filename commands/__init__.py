"""The verbs of the command line. Each file has `add(verbs)`, which says what can be typed, and what does it.

Those functions import what they need themselves: `--help` and typing errors answer at once.
"""

USER_ERROR = 2  # exit status: nothing was run, the input has to change
TRIALS_FAILED = 1  # exit status: the sweep is done, and some of its rows are errors
STOPPED = 3  # exit status: the sweep broke off; what is finished is stored
BROKEN_PIPE = 141  # exit status: nobody reads the output any more; as shells report it
INTERRUPTED = 130  # exit status: as shells report Ctrl-C
