"""Reads what an .onnx file takes and gives, and refuses what the ONNX SOP would choke on.

Houdini's Python has no onnx package, so this reads the file's protocol buffers itself: a message
is a sequence of (field number, wire type, value), and a value may be a message again. Numbers of
the fields are those of onnx.proto, whose names are in the comments. `python onnx_file.py
model.onnx` prints what it found.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from lab_houdini.table import SceneError

OPSETS = range(7, 20)
"""Of these, 8, 9, 12, 17 and 19 are known to have run in Houdini or to be meant for it [3p]; a
ceiling is published nowhere [?]."""
IR_VERSIONS = range(3, 10)  # 9 came with opset 19
KINDS = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
         11: "float64", 16: "bfloat16"}  # fmt: skip
HEAVY = {10: "float16", 11: "float64", 16: "bfloat16"}
"""Kinds that weights must not have. Shapes inside a model are int64, and may be."""
SLOTS = 9  # of a shape in the ONNX SOP [3p]
EXTERNAL = 1  # TensorProto.data_location

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Tensor:
    """An input or an output: its name, its kind of number, and its sides, a name where dynamic."""

    name: str
    kind: str
    shape: Shape

    def __str__(self) -> str:
        return f"{self.name} {self.kind} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Node:
    """An operation of the graph: its kind, its domain ('' is ONNX's own), wires by name."""

    kind: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """What a file holds, as far as it matters here.

    Attributes:
        opsets: domain -> version.
        weights: name -> kind, of tensors stored in the file.
        outside: weights whose numbers lie in another file.
    """

    ir_version: int
    opsets: dict[str, int]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    weights: dict[str, int]
    outside: tuple[str, ...]


@dataclass(frozen=True)
class Classifier:
    """A model that will do: images in, `probs` and `embedding` out.

    Attributes:
        batch: images it takes at once; 0: any number.
        height, width: of an image, in pixels.
        classes: values of `probs` an image.
        embedding: values of `embedding` an image.
    """

    path: Path
    batch: int
    height: int
    width: int
    classes: int
    embedding: int


def classifier(path: Path) -> Classifier:
    """The model at `path`, if the scene can use it.

    Raises:
        SceneError: in one line what is wrong with it, and how it should have been exported.
    """
    model = read(path)
    if problem := next(_problems(model), None):
        raise SceneError(f"{path}: {problem}")
    image, (probs, embedding) = model.inputs[0].shape, (o.shape for o in model.outputs)
    height, width, classes, values = map(int, (*image[2:], probs[1], embedding[1]))
    batch = image[0] if isinstance(image[0], int) else 0
    return Classifier(path, batch, height, width, classes, values)


def _problems(model: Model) -> Iterator[str]:
    """What would not work in Houdini, the plainest first."""
    if model.ir_version not in IR_VERSIONS:
        yield f"its IR version is {model.ir_version}, not {_span(IR_VERSIONS)}: export opset 17"
    if foreign := sorted({node.domain for node in model.nodes} - {"", "ai.onnx"}):
        yield f"it uses operators of {foreign[0]}: only ONNX's own are sure to be there"
    opset = model.opsets.get("", model.opsets.get("ai.onnx", 0))
    if opset not in OPSETS:
        yield f"its opset is {opset}, not {_span(OPSETS)}: export with opset_version=17"
    if model.outside:
        yield f"the weights {model.outside[0]} lie in another file: export them inside"
    if wrong := [name for name, kind in model.weights.items() if kind in HEAVY]:
        yield f"the weights {wrong[0]} are {HEAVY[model.weights[wrong[0]]]}, not float32"
    for tensor in (*model.inputs, *model.outputs):
        if tensor.kind != "float32":
            yield f"{tensor} is no float32 tensor, and the SOP takes no other"
        if len(tensor.shape) > SLOTS:
            yield f"{tensor} has more sides than the {SLOTS} of the SOP"
    names = [tensor.name for tensor in model.outputs]
    if names != ["probs", "embedding"]:  # Houdini wires by index, not by name
        yield f"its outputs are {', '.join(names) or 'none'}, not probs, embedding in this order"
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4 or model.inputs[0].shape[1] != 1:
        found = ", ".join(map(str, model.inputs)) or "nothing"
        yield f"it takes {found}, not grey images [1, 1, height, width] or [N, 1, height, width]"
        return
    shapes = [tensor.shape for tensor in (*model.inputs, *model.outputs)]
    for tensor in model.outputs:
        if len(tensor.shape) != 2:
            yield f"{tensor} is not [N, values]"
    first, rest = {shape[:1] for shape in shapes}, [side for shape in shapes for side in shape[1:]]
    if dynamic := [side for side in rest if not isinstance(side, int) or side < 1]:
        yield f"side {dynamic[0]} is dynamic: only the first may be, the number of images"
    if len(first) != 1:
        yield "its first sides differ: all are 1, or all are the same dynamic N"
    (number,) = first.pop() or (0,)
    if isinstance(number, int) and number != 1:
        yield f"it takes {number} images at once: export it for 1, or with a dynamic N"
    if (last := _maker(model, "probs")) != "Softmax":
        yield f"probs come from {last}, not from Softmax: export it with the softmax inside"


def _maker(model: Model, name: str) -> str:
    """The kind of the operation that a value comes from, looking through what changes none."""
    made = {output: node for node in model.nodes for output in node.outputs}
    node = made.get(name)
    while node and node.kind in ("Identity", "Reshape", "Flatten") and node.inputs:
        node = made.get(node.inputs[0])
    return node.kind if node else "nothing"


def _span(numbers: range) -> str:
    return f"{numbers[0]} to {numbers[-1]}"


def read(path: Path) -> Model:
    """What the file holds.

    Raises:
        SceneError: there is no such file, or it is not ONNX, or cut short.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SceneError(f"cannot read the model {path}: {error}") from error
    try:
        return _model(data)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise SceneError(f"{path} is no ONNX file, or cut short ({error})") from None


class Fields(dict[int, list[bytes]]):
    """Field number -> its values, numbers as eight bytes."""


def _model(data: bytes) -> Model:
    fields = _grouped(data)
    (graph,) = (_grouped(value) for value in fields[7])  # graph
    weights = [_grouped(value) for value in graph.get(5, [])]  # initializer: TensorProto
    names = [_text(weight, 8) for weight in weights]
    outside = [n for n, w in zip(names, weights, strict=True) if _number(w, 14) == EXTERNAL]
    inputs = [_tensor(value) for value in graph.get(11, [])]
    opsets = (_grouped(value) for value in fields.get(8, []))  # opset_import
    return Model(
        _number(fields, 1),  # ir_version
        {_text(opset, 1): _number(opset, 2) for opset in opsets},
        tuple(tensor for tensor in inputs if tensor.name not in names),  # old files list weights
        tuple(_tensor(value) for value in graph.get(12, [])),
        tuple(_node(value) for value in graph.get(1, [])),
        {name: _number(weight, 2) for name, weight in zip(names, weights, strict=True)},
        tuple(outside),
    )


def _node(data: bytes) -> Node:
    fields = _grouped(data)
    inputs, outputs = (tuple(v.decode() for v in fields.get(k, [])) for k in (1, 2))
    return Node(_text(fields, 4), _text(fields, 7), inputs, outputs)


def _tensor(data: bytes) -> Tensor:
    """A ValueInfoProto; kind 'no tensor' for sequences and the like."""
    fields = _grouped(data)
    (kind,) = (_grouped(value) for value in fields[2])  # the TypeProto
    if 1 not in kind:  # tensor_type
        return Tensor(_text(fields, 1), "no tensor", ())
    tensor = _grouped(kind[1][0])
    number = _number(tensor, 1)  # elem_type
    sides = _grouped(tensor[2][0]).get(1, []) if 2 in tensor else []  # shape.dim
    shape = tuple(_side(_grouped(side)) for side in sides)
    return Tensor(_text(fields, 1), KINDS.get(number, f"kind {number}"), shape)


def _side(fields: Fields) -> int | str:
    return _number(fields, 1) if 1 in fields else _text(fields, 2) or "?"  # dim_value, dim_param


def _grouped(data: bytes) -> Fields:
    """The fields of a message."""
    fields, at = Fields(), 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            number, at = _varint(data, at)
            value = number.to_bytes(8, "little")
        elif wire in (1, 2, 5):
            size, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"a field of wire type {wire}")
        if at > len(data):
            raise ValueError("a field that ends after the file")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; and where it ends."""
    number = shift = 0
    while shift < 64:
        byte, at = data[at], at + 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & (1 << 64) - 1, at
        shift += 7
    raise ValueError("a number of more than ten bytes")


def _number(fields: Fields, key: int) -> int:
    """The last value of a number's field, as protocol buffers want it; 0 where it is left out."""
    return int.from_bytes(fields[key][-1], "little", signed=True) if key in fields else 0


def _text(fields: Fields, key: int) -> str:
    return fields[key][-1].decode() if key in fields else ""


def described(model: Classifier) -> str:
    """In a line what it takes and gives."""
    number = "any number of images" if model.batch == 0 else "one image"
    return (
        f"{number} of {model.height} x {model.width} -> probs [{model.classes}], "
        f"embedding [{model.embedding}]"
    )


def main(argv: list[str]) -> int:
    """Check the files that are named; 0, or 2 after one line for the first that will not do."""
    try:
        for name in argv:
            print(f"{name}: {described(classifier(Path(name)))}")
    except SceneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
