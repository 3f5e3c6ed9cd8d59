"""Errors that end in one sentence for a person.

LvmError             base; wrong use or wrong input, exit status 2
├─ BundleError       a bundle is damaged, foreign or incomplete
├─ EngineFault       a backend failed while it ran a graph
├─ GateFailed        an exported graph does not answer like its network, exit status 3
└─ Unavailable       this machine lacks something: a package, a device, a driver, exit status 4
   └─ CannotBuild      this machine cannot make its own form of a graph: too little memory
"""


class LvmError(Exception):
    """Base of every error that is shown as one sentence: what was expected, what came, what to do."""

    exit_status = 2

    @property
    def sentences(self) -> tuple[str, ...]:
        """The sentences to show; several where several things are wrong at once."""
        return (str(self),)


class BundleError(LvmError):
    """A bundle is damaged, foreign or incomplete."""


class EngineFault(LvmError):
    """A backend failed while it ran a graph: out of memory, a lost device."""


class GateFailed(LvmError):
    """An exported graph does not answer like the network that it was made from."""

    exit_status = 3


class Unavailable(LvmError):
    """Something that was asked for is not on this machine: a package, a camera, a driver."""

    exit_status = 4


class CannotBuild(Unavailable):
    """A backend cannot make this machine's form of a graph: too little memory, an operator that it lacks."""


def first_line(error: Exception) -> str:
    """Return the first line of a backend's error, at most 300 letters, for a sentence of ours.

    It may repeat any name from a graph, so control characters are escaped.
    """
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0][:300])


def printable(text: str) -> str:
    """Escape line breaks and control characters: one line, and no control sequences for a terminal.

    The zero-width joiners stay: Persian and Hindi are written with them.
    """
    return "".join(
        c if c.isprintable() or c in "\u200c\u200d" else c.encode("unicode_escape").decode() for c in text
    )
