"""What happens in a process of its own stays there, except for its answer."""

import json
import os

import pytest

from edgeq.config.targets import load_target
from edgeq.errors import ArtifactError, ConfigError
from edgeq.isolation import isolated


def test_answers_and_errors_come_back():
    assert isolated(json.loads, '{"a": [1, 2]}') == {"a": [1, 2]}
    with pytest.raises(json.JSONDecodeError):
        isolated(json.loads, "{")
    with pytest.raises(ConfigError, match="did you mean") as caught:
        isolated(load_target, "tflite-armm")
    assert caught.value.what == "unknown target 'tflite-armm'"


def test_a_death_is_an_error_with_its_cause():
    with pytest.raises(ArtifactError, match="crashed on this file: ended by SIGABRT"):
        isolated(os.abort)
    with pytest.raises(ArtifactError, match="ended with status 7"):
        isolated(os._exit, 7)
