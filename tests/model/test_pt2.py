"""A ``.pt2`` is data: what is not a plain program with tensors is refused in one line, and none of it runs."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._export.serde.serialize import serialize

from edgeq.errors import EdgeqError
from edgeq.graph.capture.walk import capture, capture_program
from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.model import pt2_archive
from edgeq.model.load import load_model
from edgeq.model.pt2_program import clean_program


class Net(nn.Module):
    """A constant made from a buffer and the activation's type, and a flatten that names the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(16, 4)
        self.register_buffer("scale", torch.rand(4, 1, 1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) * self.scale.type_as(x)
        return self.fc(nn.functional.adaptive_avg_pool2d(y, 2).view(x.shape[0], -1))


def exported(open_batch: bool) -> torch.export.ExportedProgram:
    torch.manual_seed(0)
    shapes = {"x": {0: torch.export.Dim("batch")}} if open_batch else None
    return torch.export.export(Net().eval(), (torch.zeros(1 + open_batch, 3, 8, 8),), dynamic_shapes=shapes)


@pytest.fixture(scope="module")
def archives() -> Mapping[bool, dict[str, bytes]]:
    """The files of an archive as torch writes it, with an open batch and with one of 1."""
    found = {}
    for open_batch in (False, True):
        buffer = io.BytesIO()
        torch.export.save(exported(open_batch), buffer)
        with zipfile.ZipFile(buffer) as archive:
            found[open_batch] = {name: archive.read(name) for name in archive.namelist()}
    return found


def place_of(files: Mapping[str, bytes], end: str) -> str:
    return next(name for name in files if name.endswith(end))


def write(path: Path, files: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


def edited(path: Path, files: Mapping[str, bytes], end: str, edit: Callable[[Any], None]) -> str:
    name = place_of(files, end)
    data = json.loads(files[name])
    edit(data)
    return write(path, {**files, name: json.dumps(data).encode()})


def opened(reference: str) -> Graph:
    program = load_model(reference).module
    assert not isinstance(program, nn.Module)
    return capture_program(program, "net")


def refusal(reference: str) -> str:
    """The line with which the file is refused, be it when it is opened or captured."""
    with pytest.raises(EdgeqError) as caught:
        opened(reference)
    assert caught.value.exit_status in (2, 3)
    line = str(caught.value)
    assert "\n" not in line
    assert "bug in edgeq" not in line
    return line


class Payload:
    """What a hostile pickle does when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (os.mkdir, ("ran",))


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every payload makes a folder ``ran`` where the test works; none may."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "ran").exists()


CODE = "__import__('os').mkdir('ran')"


@pytest.mark.parametrize("open_batch", [False, True])
def test_a_clean_program_is_the_network(
    tmp_path: Path, archives: Mapping[bool, dict[str, bytes]], open_batch: bool
) -> None:
    loaded = load_model(write(tmp_path / "net.pt2", archives[open_batch]))
    assert (loaded.spec.input_shape, loaded.spec.classes) == ((3, 8, 8), 4)
    assert not isinstance(loaded.module, nn.Module)
    graph, x = capture_program(loaded.module, "net"), torch.rand(1, 3, 8, 8)
    network = exported(False).module()
    assert torch.allclose(GraphModule(graph)(x), network(x), atol=1e-6)
    torch.manual_seed(0)
    own = capture(Net(), (3, 8, 8), "net")
    assert [node.name for node in graph.nodes][:1] == [node.name for node in own.nodes][:1] == ["conv"]


def test_the_older_form_of_archive_is_read_as_well(tmp_path: Path) -> None:
    program = exported(False)
    old = serialize(program)
    files = {
        "version": b"8.8",
        "serialized_exported_program.json": old.exported_program,
        "serialized_state_dict.pt": old.state_dict,
        "serialized_constants.pt": old.constants,
        "serialized_example_inputs.pt": old.example_inputs,
    }
    x, graph = torch.rand(1, 3, 8, 8), opened(write(tmp_path / "old.pt2", files))
    assert torch.allclose(GraphModule(graph)(x), program.module()(x), atol=1e-6)
    for name in ("serialized_state_dict.pt", "serialized_constants.pt"):
        evil = io.BytesIO()
        torch.save({"conv.weight": Payload()}, evil)
        refusal(write(tmp_path / "evil.pt2", {**files, name: evil.getvalue()}))


EXPRESSIONS = (
    f"({CODE}, Symbol('s77', positive=True, integer=True))[1]",
    f"Symbol({CODE})",
    f"Symbol('s77', positive={CODE})",
    f"Add(Symbol('s77'), {CODE})",
    f"Max({CODE}, 2)",
    f"Mul(*[{CODE}])",
    f"s77 if {CODE} else s77",
    f"f'{{{CODE}}}'",
    f"[{CODE} for _ in (1,)][0]",
    f"(lambda: {CODE})()",
    f"s77\n.{CODE}",
    "Symbol('s77').__class__",
    "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
    "9 ** 9 ** 9",
    "Symbol('u0', integer=True)",
    "(" * 1000 + "s77" + ")" * 1000,
    "-" * 1900 + "1",
    "s77 + " * 5000 + "s77",
    7,
)


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=[str(text)[:40] for text in EXPRESSIONS])
def test_sizes_are_arithmetic(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]], expression: object) -> None:
    def everywhere(value: Any) -> None:
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            everywhere(item)
        if isinstance(value, dict) and "expr_str" in value:
            value["expr_str"] = expression

    line = refusal(edited(tmp_path / "net.pt2", archives[True], "model.json", everywhere))
    assert "is not plain arithmetic; export it with fixed sizes" in line


@pytest.mark.parametrize(
    "expression",
    [
        "Symbol('s77', positive=True, integer=True)",
        "s77",
        "Mul(Integer(64), Symbol('s77', integer=True))",
        "FloorDiv(Add(Symbol('s77'), Integer(-1)), Integer(2))",
        "4*s77 + 3",
    ],
)
def test_plain_arithmetic_of_open_sizes_is_kept(archives: Mapping[bool, dict[str, bytes]], expression: str) -> None:
    data = json.loads(archives[True][place_of(archives[True], "model.json")])
    data["graph_module"]["graph"]["sym_int_values"]["sym_size_int_1"] = {"as_expr": {"expr_str": expression}}
    cleaned = clean_program(data)["graph_module"]["graph"]["sym_int_values"]["sym_size_int_1"]
    assert cleaned == {"as_expr": {"expr_str": expression}}


def _node(data: Any, call: str) -> Any:
    return next(node for node in data["graph_module"]["graph"]["nodes"] if node["target"].startswith(call))


TARGETS = (
    "torch.os.mkdir",
    "torch.hub.load",
    "torch.ops.load_library",
    "torch.ops.aten.__class__.mro",
    "_operator.attrgetter",
    "_operator.call",
    "math.factorial",
    "#extension:op",
    "torch.ops.higher_order.cond",
    "torch.ops.prims.add.default",
    "torch.ops.aten.from_file.default",
    "torch.ops.aten.conv2d.default.__call__",
    "torch.ops.aten.resize_.default",
    "torch.ops.aten.record_stream.default",
    "torch.ops.aten.set_.source_Storage",
    "torch.load",
    3,
)


@pytest.mark.parametrize("target", TARGETS)
def test_calls_are_torch_s_own_arithmetic(
    tmp_path: Path, archives: Mapping[bool, dict[str, bytes]], target: object
) -> None:
    def edit(data: Any) -> None:
        _node(data, "torch.ops.aten.type_as")["target"] = target

    line = refusal(edited(tmp_path / "net.pt2", archives[False], "model.json", edit))
    assert "is not supported" in line


def test_files_are_not_made_by_a_call_on_constants(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]]) -> None:
    def edit(data: Any) -> None:
        _node(data, "torch.ops.aten.type_as").update(
            target="torch.ops.aten.from_file.default",
            inputs=[
                {"name": "filename", "arg": {"as_string": "ran"}, "kind": 1},
                {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
                {"name": "size", "arg": {"as_int": 4}, "kind": 1},
            ],
        )

    assert "aten.from_file is not supported" in refusal(
        edited(tmp_path / "net.pt2", archives[False], "model.json", edit)
    )


@pytest.mark.parametrize("call", ["full", "zeros", "arange", "expand and copy"])
def test_constants_are_measured_before_they_are_made(
    tmp_path: Path, archives: Mapping[bool, dict[str, bytes]], call: str
) -> None:
    size = {"as_ints": [2**40]} if call in ("full", "zeros") else {"as_int": 2**40}
    inputs = {
        "full": [{"name": "size", "arg": size, "kind": 1}, {"name": "fill_value", "arg": {"as_float": 1.0}, "kind": 1}],
        "zeros": [{"name": "size", "arg": size, "kind": 1}],
        "arange": [{"name": "end", "arg": size, "kind": 1}],
        "expand and copy": [
            {"name": "self", "arg": {"as_tensor": {"name": "b_scale"}}, "kind": 1},
            {"name": "repeats", "arg": {"as_ints": [1024, 1024, 1024]}, "kind": 1},
        ],
    }[call]

    def edit(data: Any) -> None:
        target = "repeat" if "expand" in call else call
        _node(data, "torch.ops.aten.type_as").update(target=f"torch.ops.aten.{target}.default", inputs=inputs)

    line = refusal(edited(tmp_path / "net.pt2", archives[False], "model.json", edit))
    assert "makes a constant of" in line


def test_activations_have_a_size_too(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]]) -> None:
    def edit(data: Any) -> None:
        data["graph_module"]["graph"]["tensor_values"]["conv2d"]["sizes"][2] = {"as_int": 2**40}

    assert "elements, more than" in refusal(edited(tmp_path / "net.pt2", archives[False], "model.json", edit))


def _rename(data: Any, old: str, new: str) -> Any:
    return json.loads(json.dumps(data).replace(json.dumps(old), json.dumps(new)))


@pytest.mark.parametrize("name", [f"x={CODE}", f"x): {CODE}\n  def g(", "lambda", "__builtins__", "x y", ""])
def test_names_cannot_become_source_code(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]], name: str) -> None:
    for old in ("x", "conv2d", "p_conv_weight"):

        def edit(data: Any, old: str = old) -> None:
            renamed = _rename(copy.deepcopy(data), old, name)
            data.clear()
            data.update(renamed)

        assert "is not the name of a value" in refusal(
            edited(tmp_path / "net.pt2", archives[False], "model.json", edit)
        )


@pytest.mark.parametrize("path", [f'a"+{CODE}+"', "__class__", "a..b", "a\nb", ""])
def test_paths_of_parameters_are_paths(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]], path: str) -> None:
    def edit(data: Any) -> None:
        data["graph_module"]["signature"]["input_specs"][0]["parameter"]["parameter_name"] = path

    assert "is not the path of a parameter" in refusal(
        edited(tmp_path / "net.pt2", archives[False], "model.json", edit)
    )


def test_what_capture_does_not_need_is_left_out(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]]) -> None:
    """Guards are evaluated, tree specs import modules, metadata looks up attributes: none of them arrives."""
    (tmp_path / "evil_module.py").write_text("import os\nos.mkdir('ran')\n")
    enum = json.dumps({"__enum__": True, "fqn": "evil_module:E", "name": "A"})
    spec = json.dumps([1, {"type": "builtins.tuple", "context": enum, "children_spec": []}])
    factory = json.dumps({"default_factory_module": "evil_module", "default_factory_name": "A", "dict_context": []})
    other = json.dumps([1, {"type": "collections.defaultdict", "context": factory, "children_spec": []}])

    def edit(data: Any) -> None:
        data["guards_code"] = [CODE]
        data["verifiers"] = ["evil"]
        module = data["graph_module"]
        module["metadata"] = {"custom": CODE}
        signature = module["module_call_graph"][0]["signature"]
        signature.update(in_spec=spec, out_spec=other, forward_arg_names=[f"x={CODE}"])
        node = _node(data, "torch.ops.aten.conv2d")
        node["metadata"] = {
            "stack_trace": f"File\n{CODE}",
            "nn_module_stack": f"a,b,c\n{CODE}",
            "source_fn_stack": f"a,{CODE}",
            "custom": CODE,
            "from_node": CODE,
            "torch_fn": CODE,
        }

    for open_batch in (False, True):
        assert opened(edited(tmp_path / "net.pt2", archives[open_batch], "model.json", edit)).outputs == ("fc",)


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_pickles_are_not_opened(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]], kind: str) -> None:
    files, evil = archives[False], io.BytesIO()
    torch.save({"conv.weight": Payload()}, evil)
    root = place_of(files, "models/model.json").removesuffix("models/model.json")
    assert refusal(write(tmp_path / "old.pt2", {**files, f"{root}data/{kind}/model.pt": evil.getvalue()}))
    assert refusal(write(tmp_path / "raw.pt2", {**files, f"{root}data/{kind}/model.pt": pickle.dumps(Payload())}))
    for name in ("custom_obj_0", "opaque_obj_0", "../aotinductor/a.so"):
        whole = {**files, f"{root}data/{kind}/{name}": pickle.dumps(Payload())}
        assert "holds code or custom objects" in refusal(write(tmp_path / "object.pt2", whole))


def test_a_weight_that_is_pickled_is_refused(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]]) -> None:
    files = dict(archives[False])
    files[place_of(files, "weight_0")] = pickle.dumps(Payload())

    def edit(data: Any) -> None:
        data["config"]["conv.weight"]["use_pickle"] = True

    assert "a pickle may hold code" in refusal(edited(tmp_path / "net.pt2", files, "model_weights_config.json", edit))


def test_example_inputs_are_not_opened(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]]) -> None:
    files, evil = dict(archives[False]), io.BytesIO()
    torch.save(Payload(), evil)
    files[place_of(files, "sample_inputs/model.pt")] = evil.getvalue()
    assert load_model(write(tmp_path / "net.pt2", files)).spec.classes == 4


def test_tensors_are_no_larger_than_their_bytes(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]]) -> None:
    def far_larger(data: Any) -> None:
        meta = data["config"]["conv.weight"]["tensor_meta"]
        meta["sizes"], meta["strides"] = [{"as_int": 2**40}], [{"as_int": 0}]

    def below_zero(data: Any) -> None:
        data["config"]["conv.weight"]["tensor_meta"]["sizes"] = [{"as_int": -4}]

    def elsewhere(data: Any) -> None:
        data["config"]["conv.weight"]["path_name"] = "../../../etc/passwd"

    def behind_its_end(data: Any) -> None:
        data["config"]["conv.weight"]["tensor_meta"]["storage_offset"] = {"as_int": 2**30}

    for edit in (far_larger, below_zero, elsewhere, behind_its_end):
        refusal(edited(tmp_path / "net.pt2", archives[False], "model_weights_config.json", edit))
    empty = {**archives[False], place_of(archives[False], "weight_0"): b""}
    assert "has no bytes" in refusal(write(tmp_path / "empty.pt2", empty))


def test_archives_have_limits(
    tmp_path: Path, archives: Mapping[bool, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = archives[False]
    monkeypatch.setattr(pt2_archive, "SLACK", 2**20)
    bomb = {**files, "net/data/weights/weight_99": bytes(8 * 2**20)}
    assert "unpack to" in refusal(write(tmp_path / "bomb.pt2", bomb, zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(pt2_archive, "LARGEST_JSON", 1000)
    assert "model.json has" in refusal(write(tmp_path / "long.pt2", files))
    monkeypatch.setattr(pt2_archive, "MOST_MEMBERS", 5)
    assert "files" in refusal(write(tmp_path / "many.pt2", files))


def test_nesting_has_limits(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]]) -> None:
    files = dict(archives[False])
    files[place_of(files, "model.json")] = b'{"graph_module":' * 100_000
    refusal(write(tmp_path / "deep.pt2", files))
    files[place_of(files, "model.json")] = b"[" * 100_000 + b"]" * 100_000
    assert "nested too deeply" in refusal(write(tmp_path / "deep.pt2", files))


def test_a_program_of_an_accelerator_is_read_on_the_processor(
    tmp_path: Path, archives: Mapping[bool, dict[str, bytes]]
) -> None:
    files = {
        name: data.replace(b'"type": "cpu", "index": null', b'"type": "cuda", "index": 0')
        for name, data in archives[False].items()
    }
    loaded = load_model(write(tmp_path / "net.pt2", files))
    assert {tensor.device.type for tensor in loaded.module.state_dict.values()} == {"cpu"}


def test_damage_anywhere_is_one_line(tmp_path: Path, archives: Mapping[bool, dict[str, bytes]]) -> None:
    """Every value of the program in turn becomes something else; most are refused, none ends otherwise."""
    files = archives[False]
    name = place_of(files, "model.json")
    whole = json.loads(files[name])
    places: list[tuple[Any, ...]] = []

    def walk(value: Any, place: tuple[Any, ...]) -> None:
        places.append(place)
        for key, item in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            walk(item, (*place, key))

    walk(whole["graph_module"], ("graph_module",))
    for number, place in enumerate(places[1::23]):
        data = copy.deepcopy(whole)
        inner = data
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = (None, -1, "x", [], {}, CODE, 2**70, 0.5)[number % 8]
        reference = write(tmp_path / "net.pt2", {**files, name: json.dumps(data).encode()})
        with contextlib.suppress(EdgeqError):  # anything else fails the test
            opened(reference)
