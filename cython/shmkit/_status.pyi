class ShmkitError(Exception):
    status: int

class Corrupt(ShmkitError): ...  # noqa: N818
class OwnerDied(ShmkitError): ...  # noqa: N818
class VersionMismatch(ShmkitError): ...  # noqa: N818

class NotOwner(RuntimeError, AssertionError):  # noqa: N818
    status: int
