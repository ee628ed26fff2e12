"""Settings of the sandbox."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from ..settings import Section
from .limits import Backend, Limits

if TYPE_CHECKING:
    from . import Sandbox


class SandboxSettings(Section):
    """How generated programs are run."""

    sandbox: Backend = Field(
        default="auto", description="auto, namespaces, bubblewrap, container, or none to run programs with your rights"
    )
    container_image: str | None = Field(default=None, description="for docker or podman, with Python 3.9 or later")
    timeout_s: float = Field(default=Limits.timeout_s, gt=0, description="time limit of a program")

    def open_sandbox(self, shown: Sequence[str] = ()) -> "Sandbox":
        """Opens the sandbox; programs may read the files and folders `shown` besides the system's."""
        from . import open_sandbox

        limits = Limits(timeout_s=self.timeout_s)
        return open_sandbox(self.sandbox, limits, shown=shown, image=self.container_image)
