"""What happens in a process of its own stays there, except for its answer."""

import json
import os
import subprocess
import sys

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


def test_a_script_without_a_guard_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import math\nfrom edgeq.isolation import isolated\nprint('once', isolated(math.sqrt, 9.0))\n")
    assert subprocess.check_output([sys.executable, str(script)], text=True) == "once 3.0\n"
