"""What can go wrong, as exceptions. The message says what is wrong and what to do about it."""

# Names are those of kvfs_status; all of them are kvfs.Error.
# ruff: noqa: N818


class Error(Exception):
    """Any failure of kvfs. `status` is the name of the C API's kvfs_status."""

    status = "error"


class Invalid(Error, ValueError):
    """An argument is wrong; nothing was done."""

    status = "invalid"


class NotFound(Error, LookupError):
    """Not a kvfs mount, or no such namespace, prefix or reservation."""

    status = "not_found"


class Exists(Error):
    """Something of this name is there already."""

    status = "exists"


class Mismatch(Error, ValueError):
    """The geometry or format version differs from what the namespace has."""

    status = "mismatch"


class PermissionDenied(Error):
    """The namespace's directory does not allow it."""

    status = "permission"


class NoSpace(Error):
    """A tier is full and nothing in it may leave."""

    status = "no_space"


class Busy(Error):
    """Somebody else is using it."""

    status = "busy"


class Corrupt(Error):
    """A block failed its checksum, or could not be read from its disk: recompute it."""

    status = "corrupt"


class InputOutput(Error):
    """A device failed."""

    status = "io"


class Timeout(Error, TimeoutError):
    """The time given has passed. A transfer goes on."""

    status = "timeout"


class Unavailable(Error):
    """The daemon is gone, or this machine cannot do it: treat as a miss."""

    status = "unavailable"


class Forked(Error):
    """The object belongs to the parent process: open the namespace again in this one."""

    status = "forked"


_classes = {cls.status: cls for cls in Error.__subclasses__()}


def class_of(status):
    """The exception class of a status name."""
    return _classes.get(status, Error)
