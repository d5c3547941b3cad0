#!/bin/sh
# Install the peers into an environment of their own, .peers/venv, so that jax and transformers never meet edgeq's.
set -eu
cd "$(dirname "$0")/../.."
PYTHON="${PYTHON:-$(command -v python3.11 || command -v python3)}"
[ -x .peers/venv/bin/python ] || "$PYTHON" -m venv .peers/venv
.peers/venv/bin/python -m pip install --quiet --disable-pip-version-check -c benchmarks/peers/constraints.txt \
    torch litert-torch onnx onnxruntime onnxscript
.peers/venv/bin/python -m pip list --disable-pip-version-check | grep -E '^(torch|torchao|litert|ai-edge|jax|jaxlib|onnx|onnxruntime|numpy) *' || true
