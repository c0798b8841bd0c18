"""The networks: shapes, size, and what they may and may not depend on."""

import pytest
import torch
from torch.nn import functional as F

from diffusion.model import EMBEDDING, Attention, Perceptron, Unet, build, sinusoids


def test_size_of_the_default():
    assert sum(p.numel() for p in Unet().parameters()) <= 830_000


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (1, 6, 10), (2,)])
def test_the_answer_has_the_shape_of_the_question(shape, make_trained):
    model = make_trained(shape).model
    x = torch.randn(3, *shape)
    t, label = torch.tensor([1, 20, 50]), torch.tensor([0, 0, 0])
    assert model(x, t, label).shape == x.shape


def test_resolutions_of_28_pixels():
    model = Unet(widths=(8, 16, 24))
    seen = []
    for block in (*model.down, *model.up):
        block.register_forward_hook(lambda _, inputs, out: seen.append(tuple(out.shape[1:])))
    model(torch.randn(1, 1, 28, 28), torch.tensor([5]), torch.tensor([0]))
    down = [(8, 14, 14), (16, 7, 7), (24, 4, 4)]
    assert seen == down + down[::-1]


def test_it_begins_by_predicting_nothing():
    """The head is 0, and every block the identity: the first loss is that of the mean."""
    x = torch.randn(2, 1, 28, 28)
    assert not build((1, 28, 28), 10, (32, 64))(x, torch.tensor([1, 9]), torch.tensor([3, 4])).any()
    assert not Perceptron()(torch.randn(2, 2), torch.tensor([1, 9]), torch.tensor([0, 0])).any()


@pytest.mark.parametrize("shape", [(1, 8, 8), (2,)])
def test_every_parameter_gets_a_gradient(shape, make_trained):
    model = make_trained(shape, classes=0 if len(shape) == 1 else 10).model
    label = torch.zeros(4, dtype=torch.int64)
    model(torch.randn(4, *shape), torch.tensor([1, 10, 30, 50]), label).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("shape", [(1, 8, 8), (2,)])
@torch.no_grad()
def test_neighbours_in_the_batch_do_not_matter(shape, make_trained):
    model = make_trained(shape).model
    x = torch.randn(5, *shape)
    t, label = torch.tensor([1, 2, 30, 49, 50]), torch.zeros(5, dtype=torch.int64)
    together = model(x, t, label)
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1], label[i : i + 1]) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)


@torch.no_grad()
def test_time_and_label_matter(make_trained):
    model = make_trained().model
    x, t, label = torch.randn(1, 1, 8, 8), torch.tensor([10]), torch.tensor([3])
    base = model(x, t, label)
    for other in (model(x, t + 20, label), model(x, t, label + 1), model(x, t, label * 0 + 10)):
        assert (other - base).abs().max() > 1e-3


@torch.no_grad()
def test_the_wrong_time_scale_hides_the_time():
    """t/T in a net made for 0..T: all times look alike."""
    t = torch.tensor([1.0, 500.0, 1000.0])
    right, wrong = sinusoids(t, 64), sinusoids(t * 0.001, 64)
    assert torch.pdist(wrong).max() < 2.0 < torch.pdist(right).max()
    assert (wrong[1] - wrong[0]).norm() < 1.0 < (right[1] - right[0]).norm() / 3


def test_sinusoids():
    found = sinusoids(torch.tensor([0.0, 3.0]), 4)
    assert found[0].tolist() == [0, 0, 1, 1]
    expected = torch.tensor([3.0, 3.0 / 100]).sin()
    assert torch.allclose(found[1, :2], expected)


@torch.no_grad()
def test_attention_against_torch():
    torch.manual_seed(0)
    ours = Attention(16, heads=4)
    torch.nn.init.normal_(ours.out.weight)
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.in_proj_weight.copy_(ours.qkv.weight)
    theirs.in_proj_bias.copy_(ours.qkv.bias)
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 16, 3, 5)
    tokens = F.group_norm(x, 2).flatten(2).transpose(1, 2)
    expected = theirs(tokens, tokens, tokens)[0].transpose(1, 2).view(2, 16, 3, 5)
    assert torch.allclose(ours(x) - x, expected, atol=1e-5)


def test_the_embedding_is_as_wide_as_the_perceptron():
    assert Perceptron().stem.out_features == EMBEDDING
