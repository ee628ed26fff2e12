"""The tree of errors.

```
CodeShellError        an error with a clear reason; exit code 1
|-- RunFailed         the run failed by itself
|-- CalledWrongly     the caller can fix it; exit code 2
|   |-- SettingsError     an unknown key, a wrong value, or contradicting values
|   |-- DataError         an input file or folder that is missing, empty or malformed
|   `-- CheckpointError   weights that are missing, broken or of another shape
`-- Interrupted       stopped from outside with everything saved; exit code 75, run it again
```

Every message gives the value, the rule and the fix in one line.
"""


class CodeShellError(Exception):
    """An error with a clear reason."""

    exit_code = 1


class RunFailed(CodeShellError):
    """The run failed, without a fault in its settings or inputs."""


class CalledWrongly(CodeShellError):
    """Settings or inputs that cannot work."""

    exit_code = 2


class SettingsError(CalledWrongly):
    """A setting is unknown, out of range, or contradicts another."""


class DataError(CalledWrongly):
    """An input is missing, empty or malformed."""


class CheckpointError(CalledWrongly):
    """Weights are missing, broken or of another shape."""


class Interrupted(CodeShellError):
    """The run was stopped from outside and saved everything; run it again to continue."""

    exit_code = 75
    # Environment variable of ranks: a file that they write when they are interrupted. They then exit with 0, since
    # torch's agent starts ranks again that exit with 75.
    marker_variable = "CODESHELL_INTERRUPTED_MARKER"
