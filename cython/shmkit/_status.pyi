import queue
import sys

class ShmkitError(Exception):
    status: int

class Corrupt(ShmkitError): ...  # noqa: N818
class OwnerDied(ShmkitError): ...  # noqa: N818
class Forked(ShmkitError): ...  # noqa: N818
class VersionMismatch(ShmkitError): ...  # noqa: N818
class NotOwner(ShmkitError, RuntimeError, AssertionError): ...  # noqa: N818

if sys.version_info >= (3, 13):
    class ShutDown(ShmkitError, queue.ShutDown): ...  # noqa: N818

else:
    class ShutDown(ShmkitError): ...  # noqa: N818
