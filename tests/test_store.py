"""The store against a server that speaks S3, started here; skipped where obstore or moto's server is not installed."""

import secrets

import pytest

from edgeq.errors import ArtifactError
from edgeq.store import Bucket

pytest.importorskip("obstore", reason="needs edgeq[store]")


@pytest.fixture
def bucket(monkeypatch):
    server = pytest.importorskip("moto.server", reason="needs moto[server]").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    values = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "hidden"}
    for name, value in {**values, "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    import boto3

    name = f"edgeq-{secrets.token_hex(4)}"
    boto3.client("s3", endpoint_url=values["ENDPOINT_URL"]).create_bucket(Bucket=name)
    yield Bucket(f"s3://{name}/team")
    server.stop()


def test_objects_are_written_once(bucket):
    assert bucket.get("a/b", 10) is None
    assert bucket.create("a/b", b"first")
    assert not bucket.create("a/b", b"second")
    assert bucket.get("a/b", 5) == b"first"
    assert bucket.sizes("a") == {"a/b": 5}
    assert bucket.sizes("b") == {}


def test_an_object_that_is_too_large_is_not_read(bucket):
    bucket.create("large", bytes(100_000))
    with pytest.raises(ValueError, match="more than 99999 bytes"):
        bucket.get("large", 99_999)


def test_no_server_is_one_line_without_secrets(monkeypatch):
    for name, value in {
        "ENDPOINT_URL": "http://127.0.0.1:1",
        "ACCESS_KEY_ID": "id",
        "SECRET_ACCESS_KEY": "hidden",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(ArtifactError, match="s3://b/team does not work") as refused:
        Bucket("s3://b/team").get("a", 10)
    assert "hidden" not in str(refused.value)
    assert "\n" not in str(refused.value)
