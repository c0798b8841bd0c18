"""The .ply: bit for bit, by another reader's eyes, and what is refused."""

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from splatting.ply import FIELDS, read_ply, write_ply
from trainloop import LabError
from trainloop.testing import same


def test_fields_are_the_reference_implementations():
    """gaussian_model.py's construct_list_of_attributes, written out."""
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    names += [f"f_rest_{i}" for i in range(45)]
    names += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert list(FIELDS) == names


def test_round_trip_is_bit_exact(make_gaussians, tmp_path):
    gaussians = make_gaussians(37)
    gaussians.means.data[0, 0] = 1e-42  # even a number below the normal ones
    write_ply(tmp_path / "a.ply", gaussians)
    again = read_ply(tmp_path / "a.ply")
    assert same(dict(again.tensors()), dict(gaussians.tensors()))
    write_ply(tmp_path / "b.ply", again)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_plyfile_reads_it(make_gaussians, tmp_path):
    gaussians = make_gaussians(5)
    write_ply(tmp_path / "a.ply", gaussians)
    file = PlyData.read(tmp_path / "a.ply")
    assert not file.text
    assert file.byte_order == "<"
    vertices = file["vertex"]
    t = {name: tensor.numpy() for name, tensor in gaussians.tensors().items()}
    assert (vertices["x"] == t["means"][:, 0]).all()
    assert (vertices["nz"] == 0).all()
    assert (vertices["f_dc_2"] == t["sh0"][:, 0, 2]).all()
    assert (vertices["f_rest_3"] == t["sh_rest"][:, 3, 0]).all(), "red comes first"
    assert (vertices["f_rest_15"] == t["sh_rest"][:, 0, 1]).all()
    assert (vertices["opacity"] == t["opacity_logits"]).all()
    assert (vertices["rot_0"] == t["quaternions"][:, 0]).all()
    assert (vertices["scale_2"] == t["log_scales"][:, 2]).all()


def test_what_is_drawn_is_what_is_written(make_gaussians, tmp_path):
    gaussians = make_gaussians(6)
    gaussians.isotropic = True
    write_ply(tmp_path / "a.ply", gaussians)
    assert torch.allclose(read_ply(tmp_path / "a.ply").scales(), gaussians.scales(), rtol=1e-5)


def other_ply(path, change=None, names=FIELDS, count=3, kind="f4", text=False, **extra):
    """Written by plyfile."""
    table = np.zeros(count, [(name, kind) for name in names])
    if "rot_0" in names:
        table["rot_0"] = 1
    if change:
        change(table)
    elements = [PlyElement.describe(table, extra.get("element", "vertex"))]
    PlyData(elements, text=text, byte_order="<").write(path)
    return path


def test_another_order_and_a_lower_degree_are_read(tmp_path):
    rest = [name for name in FIELDS if name.startswith("f_rest_")]
    names = [name for name in reversed(FIELDS) if name not in rest[9:]]

    def change(table):
        table["f_rest_0"], table["f_rest_3"], table["x"] = 5, 7, 2

    found = read_ply(other_ply(tmp_path / "a.ply", change, names))
    assert found.sh_rest.shape == (3, 15, 3)
    assert found.sh_rest[0, 0].tolist() == [5, 7, 0]
    assert found.sh_rest[0, 3:].abs().sum() == 0
    assert found.means[0].tolist() == [2, 0, 0]


def zero_quaternion(table):
    table["rot_0"][1] = 0


def not_a_number(table):
    table["scale_1"][2] = np.nan


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"change": zero_quaternion}, "the quaternion of Gaussian 1 is zero"),
        ({"change": not_a_number}, "log_scales of Gaussian 2 is not finite"),
        ({"names": [n for n in FIELDS if n != "opacity"]}, "lacks the fields opacity"),
        ({"names": ["x", "y", "z", "red", "green", "blue"]}, "lacks the fields f_dc_0"),
        ({"names": FIELDS[:20] + FIELDS[54:]}, "11 fields f_rest: must be 0, 9, 24 or 45"),
        ({"kind": "f8"}, "field x is not float32"),
        ({"text": True}, "is not binary little-endian"),
        ({"count": 0}, "holds no Gaussian"),
        ({"element": "face"}, "holds other elements"),
    ],
)
def test_other_fields_are_one_line(tmp_path, options, said):
    with pytest.raises(LabError, match=said) as caught:
        read_ply(other_ply(tmp_path / "a.ply", **options))
    assert "\n" not in str(caught.value)


def test_no_ply_at_all(make_gaussians, tmp_path):
    with pytest.raises(LabError, match=r"no \.ply at"):
        read_ply(tmp_path / "missing.ply")
    (tmp_path / "a.ply").write_bytes(b"hello")
    with pytest.raises(LabError, match=r"is no \.ply"):
        read_ply(tmp_path / "a.ply")
    write_ply(tmp_path / "b.ply", make_gaussians(4))
    (tmp_path / "b.ply").write_bytes((tmp_path / "b.ply").read_bytes()[:-10])
    with pytest.raises(LabError, match="is cut short"):
        read_ply(tmp_path / "b.ply")
