import sys

class ShmkitError(Exception):
    status: int

class Corrupt(ShmkitError): ...  # noqa: N818
class OwnerDied(ShmkitError): ...  # noqa: N818
class VersionMismatch(ShmkitError): ...  # noqa: N818

class NotOwner(RuntimeError, AssertionError):  # noqa: N818
    status: int

if sys.version_info >= (3, 13):
    from queue import ShutDown as ShutDown
else:
    class ShutDown(Exception):  # noqa: N818
        status: int
