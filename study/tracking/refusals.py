"""What a store refuses for good is left out, with one warning a run; every other error is raised, to be tried again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from study.config.tracking_uri import mask_uri
from study.tracking.mlflow_store import brief

logger = logging.getLogger(__name__)

_REFUSED = {"INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
# MLflow answers a closed database connection with a bad request, and a run that is missing may be found again.
_DOUBTFUL = {"BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}
_MAX_DOUBTFUL = 3  # such answers since the last run that was written before the next one counts as a refusal
_NOT_RETRIED = (TypeError, ValueError, LookupError, AttributeError)  # they would come again


class Refusals:
    """Collects what is refused of one run after the other."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.errors: list[Exception] = []  # of the run that is being written
        self._doubtful = 0
        self._warned: set[str] = set()

    @contextlib.contextmanager
    def collect(self, of_file: bool = False) -> Iterator[None]:
        """Collect a refusal; raise every other error. `of_file`: a file is sent."""
        try:
            yield
        except Exception as error:  # MLflow, its database and its HTTP client each raise their own
            if not (self.is_refusal(error) or (of_file and _is_file_refused(error))):
                raise
            self.errors.append(error)

    def is_refusal(self, error: Exception) -> bool:
        """Whether trying again would not help."""
        code = getattr(error, "error_code", None)
        if code in _DOUBTFUL:
            self._doubtful += 1
            return self._doubtful > _MAX_DOUBTFUL
        return code in _REFUSED or (isinstance(error, _NOT_RETRIED) and not isinstance(error, OSError))

    def report(self, run: str) -> None:
        """The run is written: warn of what was left out, once a run."""
        if self.errors and run not in self._warned:
            self._warned.add(run)
            reason = brief(self.errors[0], self._uri)
            logger.warning("tracking: %s refused a part of %s (%s); it is left out", mask_uri(self._uri), run, reason)
        self._doubtful = 0


def _is_file_refused(error: Exception) -> bool:
    """A file that is gone or a place that cannot be written stays so; a full disk and a silent server do not."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return 400 <= status < 500 and status not in (408, 425, 429)
    lasting = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
    return isinstance(error, lasting) or not (isinstance(error, OSError) or hasattr(error, "error_code"))
