class ShmkitError(Exception):
    status: int

class Corrupt(ShmkitError): ...  # noqa: N818
class VersionMismatch(ShmkitError): ...  # noqa: N818
