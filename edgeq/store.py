"""Objects that machines share in a bucket of S3, Google Cloud Storage or Azure, through obstore.

An address is ``s3://bucket/folder``, ``gs://…`` or ``az://…``. Credentials come from the variables of
the provider's own tools (such as ``AWS_ACCESS_KEY_ID``); none is ever printed.
"""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import urlsplit

from edgeq.errors import ArtifactError, ConfigError, InstallError, VariableError

__all__ = ["Bucket", "Store", "is_address"]

SCHEMES = ("s3", "gs", "az")
CLIENT = {"connect_timeout": "5s", "timeout": "120s", "user_agent": "edgeq"}
RETRIES: Any = {"max_retries": 2}


def is_address(text: str | None) -> bool:
    """Whether `text` is an address, and no folder."""
    return text is not None and "://" in text


class Store(Protocol):
    """Bytes by key. Nothing is ever replaced. Every method raises `ArtifactError` where the store does not answer."""

    address: str

    def get(self, key: str, most: int) -> bytes | None:
        """The object, or None where there is none. Raises `ValueError` where it has more than `most` bytes."""

    def create(self, key: str, data: bytes) -> bool:
        """Store `data` whole, unless there is an object of that key; whether there was none."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """The bytes of each object below the folder `prefix`, by its key."""


class Bucket:
    """The `Store` at an address. It is not contacted before it is used."""

    def __init__(self, address: str) -> None:
        """Raises `VariableError` where `address` names no bucket, `InstallError` without obstore."""
        parts = urlsplit(address)
        if parts.scheme not in SCHEMES or not parts.hostname or parts.netloc != parts.hostname or parts.query:
            raise VariableError(
                "EDGEQ_CACHE names no store that edgeq can use",
                why=f"an address is {', '.join(f'{one}://BUCKET/FOLDER' for one in SCHEMES)}, without credentials",
                hint="or name a folder",
            )
        self.address = f"{parts.scheme}://{parts.netloc}{parts.path}"
        try:
            import obstore
            from obstore.store import from_url
        except ImportError as error:
            hint = "pip install 'edgeq[store]'"
            raise InstallError("a shared store needs obstore, which is not installed", hint=hint) from error
        self._api = obstore
        client: Any = {**CLIENT, "allow_http": True}  # for servers of one's own; addresses of providers are https
        try:
            self._bucket = from_url(self.address, client_options=client, retry_config=RETRIES)
        except Exception as error:  # obstore's own kinds have one parent, which is Exception
            raise ConfigError(f"cannot use {self.address}", why=_reason(error)) from error

    def get(self, key: str, most: int) -> bytes | None:
        data = bytearray()
        try:
            for chunk in self._api.get(self._bucket, key).stream():
                data += chunk
                if len(data) > most:
                    raise ValueError(f"{key} has more than {most} bytes")
        except FileNotFoundError:
            return None
        except ValueError:
            raise
        except Exception as error:
            raise self._refused(error) from error
        return bytes(data)

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._api.put(self._bucket, key, data, mode="create", use_multipart=False)
        except self._api.exceptions.AlreadyExistsError:
            return False
        except Exception as error:
            raise self._refused(error) from error
        return True

    def sizes(self, prefix: str) -> dict[str, int]:
        try:
            return {one["path"]: one["size"] for page in self._api.list(self._bucket, prefix) for one in page}
        except Exception as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> ArtifactError:
        return ArtifactError(f"the shared store {self.address} does not work", why=_reason(error))


def _reason(error: Exception) -> str:
    """The first line of an error, shortened: obstore appends debugging output, which may hold request headers."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]
