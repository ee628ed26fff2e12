"""What can go wrong, as one tree.

```
CodeShellError        this package found a reason to stop; a run that dies of it exits with 1
|-- RunFailed         the run went wrong by itself
|-- CalledWrongly     the caller can mend it: exits with 2
|   |-- SettingsError     a key, a value, or two values that contradict each other
|   |-- DataError         an input file or folder that is missing, empty or malformed
|   `-- CheckpointError   weights that are missing, broken or of another shape
`-- Interrupted       stopped from outside with everything saved: exits with 75, run it again
```

Every message gives the value, the rule and the mend, in one line.
"""


class CodeShellError(Exception):
    """A run failed for a reason that this package can name."""

    exit_code = 1


class RunFailed(CodeShellError):
    """The run went wrong, though nothing that was given is at fault by itself."""


class CalledWrongly(CodeShellError):
    """The caller gave something that cannot work."""

    exit_code = 2


class SettingsError(CalledWrongly):
    """A setting is unknown, out of range, or contradicts another."""


class DataError(CalledWrongly):
    """An input is missing, empty or malformed."""


class CheckpointError(CalledWrongly):
    """Weights are missing, broken or of another shape."""


class Interrupted(CodeShellError):
    """The run was stopped from outside and saved everything; run it again to go on."""

    exit_code = 75
