"""The network, its cache, GPT-2's weights and LoRA."""

import copy
import json
import math

import pytest
import torch
from torch.nn import functional as F

from language_model.gpt2 import load_gpt2
from language_model.lora import Adapters, Lora, add_lora, merge_lora
from language_model.model import (
    Cache,
    Rotation,
    SquaredRelu,
    rotate,
    squared_relu,
    store_by_columns,
)
from language_model.ngram_embedding import NgramEmbedding
from language_model.optimizer import Muon, RowAdam, clip, make_optimizers, orthogonalised
from language_model.oracle import logit_difference
from language_model.sampling import context_start, filtered, generate
from trainloop import LabError

GPT2 = {"positions": "learned", "activation": "gelu", "qk_norm": False, "tied": True,
        "bias": True, "ngrams": 1}  # fmt: skip
KINDS = [{}, GPT2, {"norm": "rms"}, {"ngrams": 1}, {"positions": "learned"}]


@pytest.mark.parametrize("seed", [0, 1])
def test_logits_equal_transformers(seed):
    assert logit_difference(seed) < 1e-4


@pytest.mark.parametrize("options", KINDS)
def test_no_position_sees_what_comes_after_it(options, make_model):
    model = make_model(**options)
    tokens = torch.randint(11, (1, 12))
    changed = tokens.clone()
    changed[0, 7] = (changed[0, 7] + 1) % 11
    a, b = model(tokens), model(changed)
    assert torch.equal(a[:, :7], b[:, :7])
    assert not torch.allclose(a[:, 7], b[:, 7])
    assert not torch.allclose(a[:, 9], b[:, 9]), "and those after it do see it"


@pytest.mark.parametrize("options", KINDS)
def test_cached_logits_equal_all_at_once(options, make_model):
    model = make_model(**options)
    tokens = torch.randint(11, (2, 12))
    cache = Cache(model, batch=2)
    pieces = [model(tokens[:, :5], cache)]
    pieces += [model(tokens[:, k : k + 1], cache) for k in range(5, 12)]
    assert torch.allclose(torch.cat(pieces, 1), model(tokens), atol=1e-5)
    assert cache.length == 12


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_cached_sampling_writes_the_same_tokens(options, temperature, make_model):
    """Also where the context is full: 50 tokens through a block of 16."""
    model = make_model(**options)
    a, b = (
        list(generate(model, [1, 2, 3], 50, temperature, cache=cache)) for cache in (True, False)
    )
    assert a == b
    assert len(a) == 50
    assert len(set(a)) > (temperature > 0), "0 may repeat itself"


@pytest.mark.parametrize("options", KINDS)
def test_stored_by_columns_it_is_the_same_network(options, make_model):
    model = make_model(**options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tokens = torch.randint(11, (2, 12))
    logits = model(tokens)
    store_by_columns(model)
    up = model.blocks[0].mlp.up.weight
    assert (up.stride(), up.shape) == ((1, up.shape[0]), before["blocks.0.mlp.up.weight"].shape)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.allclose(model(tokens), logits, atol=1e-5)


def test_contexts_grow_and_lose_their_older_half():
    lengths = [n - context_start(n, 8) for n in range(1, 30)]
    assert lengths[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert lengths[8:16] == [5, 6, 7, 8, 5, 6, 7, 8]
    assert max(lengths) == 8


def test_too_many_tokens(make_model):
    with pytest.raises(ValueError, match="17 tokens do not fit"):
        make_model()(torch.zeros(1, 17, dtype=torch.long))


def test_rotary_positions_are_relative():
    q, k = torch.randn(2, 1, 1, 1, 1, 8)
    rotation = Rotation(8, 10)

    def product(m: int, n: int) -> float:
        turned = [rotate(x, rotation(p, p + 1)) for x, p in ((q, m), (k, n))]
        return (turned[0] * turned[1]).sum().item()

    assert product(9, 4) == pytest.approx(product(5, 0), abs=1e-5)
    assert product(9, 4) != pytest.approx(product(9, 5), abs=1e-3)
    assert product(7, 7) == pytest.approx((q * k).sum().item(), abs=1e-5)


def test_squared_relu_and_its_gradient():
    x = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    assert torch.equal(squared_relu(x), x.relu() ** 2)
    assert torch.equal(squared_relu(x.detach()), x.relu() ** 2)
    assert torch.autograd.gradcheck(SquaredRelu.apply, x)


def test_attention_maps_are_what_attention_does(make_model):
    attention = make_model().blocks[0].attention
    x = torch.randn(1, 6, 16)
    turn = Rotation(8, 6)(0, 6)
    weights = attention.weights(x, turn)
    _, _, v = attention.project(x, turn)
    y = attention.out((weights @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(y, attention(x, turn, None), atol=1e-5)
    assert torch.allclose(weights.sum(-1), torch.ones(1, 2, 6))


def test_ngrams_depend_on_order_and_reach():
    embed = NgramEmbedding(3, 10_007, 4)
    tokens = torch.tensor([[1, 2, 3], [2, 1, 3], [0, 2, 3], [5, 2, 3]])
    pairs, triples = embed.rows(tokens)[:, -1].unbind(1)
    assert pairs[0] == pairs[2] == pairs[3] != pairs[1], "a pair: the last two"
    assert len(triples.unique()) == 4
    rows = embed(tokens)[:, -1]
    assert len({tuple(row.tolist()) for row in rows}) == 4, "1 2 3 and 2 1 3 are different"
    long = embed(torch.tensor([[7, 8, 1, 2, 3]]))[:, -1]
    assert torch.equal(long[0], rows[0]), "only the last three count"
    found = embed.rows(torch.cartesian_prod(*[torch.arange(40)] * 3))[:, -1]  # (64,000, 2)
    pairs, triples = (column.unique() for column in found.unbind(1))
    assert (pairs.max() < 10_007) & (triples.min() >= 10_007), "each length has its own"
    assert len(pairs) > 0.80 * 10_007 * (1 - 2.718 ** (-1600 / 10_007)), "and uses them well"
    assert len(triples) > 0.95 * 10_007 * (1 - 2.718 ** (-64_000 / 10_007))


@pytest.mark.parametrize("options", KINDS)
def test_every_parameter_gets_a_gradient(options, make_model):
    model = make_model(**options).train()
    tokens = torch.randint(11, (8, 16))
    F.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1).flatten()).backward()
    assert all(p.grad.norm() > 0 for p in model.parameters())


def test_a_fresh_network_guesses_blindly(make_model):
    from language_model.model import Gpt

    model = Gpt(make_model().shape)
    loss = F.cross_entropy(model(torch.randint(11, (4, 16))).flatten(0, 1), torch.arange(64) % 11)
    assert loss.item() == pytest.approx(torch.tensor(11.0).log().item(), abs=1e-5)


# --- GPT-2's files --------------------------------------------------------------------------------


def test_a_dropped_bias_would_be_seen(gpt2_files):
    model = load_gpt2(gpt2_files)
    tokens = torch.randint(100, (1, 8))
    before = model(tokens)
    torch.nn.init.ones_(model.blocks[0].attention.qkv.bias)
    assert (model(tokens) - before).abs().max() > 1e-4


@pytest.mark.parametrize("damage", ["config", "size", "tensor", "weights", "activation"])
def test_weights_that_are_none(damage, gpt2_files, tmp_path):
    from safetensors.torch import load_file, save_file

    config = json.loads((gpt2_files / "config.json").read_text())
    tensors = load_file(gpt2_files / "model.safetensors")
    if damage == "config":
        del config["n_layer"]
    elif damage == "size":
        config["n_embd"] = 32
    elif damage == "activation":
        config["activation_function"] = "relu"
    elif damage == "tensor":
        del tensors["transformer.h.1.mlp.c_fc.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    if damage == "weights":
        (tmp_path / "model.safetensors").write_bytes(b"nothing")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(LabError) as caught:
        load_gpt2(tmp_path)
    assert "\n" not in str(caught.value)


# --- LoRA ----------------------------------------------------------------------------------------


def test_lora_begins_as_the_base_and_merges_to_itself(make_model):
    model = make_model(**GPT2)
    base = copy.deepcopy(model)
    tokens = torch.randint(11, (2, 16))
    adapted = add_lora(model, 3)
    assert torch.equal(adapted(tokens), base(tokens))
    learning = {n for n, p in adapted.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * 4 * 2, "two matrices beside each of four, in two blocks"
    for module in adapted.modules():
        if isinstance(module, Lora):
            torch.nn.init.normal_(module.up, std=0.3)
    before = adapted(tokens)
    assert not torch.allclose(before, base(tokens), atol=1e-2)
    merged = merge_lora(adapted)
    assert torch.allclose(merged(tokens), before, atol=1e-4)
    assert merged.state_dict().keys() == base.state_dict().keys()


def test_lora_trains_its_matrices_only(make_model):
    model = add_lora(make_model(**GPT2), 2)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimizers = make_optimizers(model, "adamw", 0.1, 0.1, 0.1)
    tokens = torch.randint(11, (4, 16))
    for _ in range(2):  # in the first step B is 0, so A has no gradient
        F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
        optimizers["adamw"].step()
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], before) for name, before in frozen.items())
    assert all(p.grad.abs().sum() > 0 for p in now.values() if p.requires_grad)


def test_adapters_are_kept_alone(make_model):
    model = add_lora(make_model(**GPT2), 2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    state = copy.deepcopy(Adapters(model).state_dict())
    other = add_lora(make_model(**GPT2), 2)
    Adapters(other).load_state_dict(state)
    tokens = torch.randint(11, (1, 8))
    assert torch.equal(model(tokens), other(tokens))
    with pytest.raises(KeyError):
        Adapters(add_lora(make_model(**GPT2, layers=1), 2)).load_state_dict(state)


# --- sampling ------------------------------------------------------------------------------------

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 1.0}, [0.5, 0.3, 0.15, 0.05]),
        ({"temperature": 0.5}, [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
        ({"temperature": 1.0, "top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.4}, [1.0, 0, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.79}, [0.625, 0.375, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.81}, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        ({"temperature": 1.0, "top_p": 0.01}, [1.0, 0, 0, 0]),
        ({"temperature": 1.0, "top_k": 3, "top_p": 0.6}, [0.625, 0.375, 0, 0]),
        ({"temperature": 1.0, "top_k": 9}, [0.5, 0.3, 0.15, 0.05]),
    ],
)
def test_what_is_left_to_draw_from(options, expected):
    shuffled = torch.tensor([2, 0, 3, 1])
    found = filtered(LOGITS[shuffled], **options)
    assert torch.allclose(found, torch.tensor(expected)[shuffled], atol=1e-5)


def test_top_k_and_top_p_against_transformers():
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    torch.manual_seed(0)
    for _ in range(20):
        logits = torch.randn(50) * 2
        theirs = TopKLogitsWarper(20)(None, logits[None] / 0.7)
        theirs = TopPLogitsWarper(0.8)(None, theirs)[0].softmax(-1)
        assert torch.allclose(filtered(logits, 0.7, 20, 0.8), theirs, atol=1e-5)


def test_an_empty_prompt(make_model):
    with pytest.raises(LabError, match="prompt is empty"):
        next(generate(make_model(), [], 1))


# --- Muon ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 32)])
def test_newton_schulz_makes_singular_values_alike(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    u, s, vt = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalised(matrices)
    values = torch.linalg.svdvals(found)
    kept = s / torch.linalg.matrix_norm(matrices)[:, None] > 0.01
    assert (values[kept] > 0.6).all()
    assert (values < 1.3).all()
    cosine = F.cosine_similarity(found.flatten(1), (u @ vt).flatten(1))
    assert (cosine > 0.95).all()


def test_muon_of_a_stack_is_muon_of_each():
    """And a tall matrix is updated as its transpose, times sqrt(rows / columns)."""
    torch.manual_seed(0)
    stack = torch.nn.Parameter(torch.randn(3, 4, 8))
    singles = [torch.nn.Parameter(m.clone()) for m in stack.detach()]
    tall = torch.nn.Parameter(stack.detach()[0].T.clone())
    start = tall.detach().clone()
    optimizers = [Muon([p], 0.1, weight_decay=0.5) for p in (stack, *singles)]
    optimizers.append(Muon([tall], 0.1))
    for _ in range(2):
        gradient = torch.randn(3, 4, 8)
        for parameter, part in zip((stack, *singles), (gradient, *gradient), strict=True):
            parameter.grad = part.clone()
        tall.grad = gradient[0].T.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.allclose(stack, torch.stack(singles), atol=1e-5)
    plain = torch.nn.Parameter(start.T.clone())
    again = Muon([plain], 0.1)
    moved = torch.linalg.matrix_norm(tall - start)
    plain.grad = gradient[0].clone()
    again.step()
    assert moved > torch.linalg.matrix_norm(plain - start.T)


def test_muon_by_the_formula():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(6, 4))
    expected, momentum = weight.detach().clone(), torch.zeros(6, 4)
    muon = Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.2)
    for _ in range(3):
        g = torch.randn(6, 4)
        weight.grad = g.clone()
        muon.step()
        momentum = 0.9 * momentum + g
        direction = orthogonalised((g + 0.9 * momentum)[None].mT)[0].T
        expected = (1 - 0.1 * 0.2) * expected - 0.1 * 1.5**0.5 * direction
    assert torch.allclose(weight, expected, atol=1e-5)


# --- tables of rows ------------------------------------------------------------------------------


def look_up(table: torch.nn.Parameter, rows: list[int], factors: torch.Tensor, sparse: bool):
    """Give the table the gradient `factors` (K, C) at these rows, summed where they meet."""
    table.grad = None
    found = F.embedding(torch.tensor(rows), table, sparse=sparse)
    (found * factors).sum().backward()


def test_rows_of_one_feature_are_torchs_adam():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(5, 1)) for _ in range(2))
    optimizers = RowAdam([ours], 0.1, 0.9), torch.optim.Adam([theirs], 0.1, (0.0, 0.9), eps=1e-10)
    for _ in range(4):
        factors = torch.randn(6, 1)
        for table, optimizer in zip((ours, theirs), optimizers, strict=True):
            look_up(table, [0, 1, 2, 3, 4, 2], factors, sparse=table is ours)
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("sparse", [True, False])
def test_a_row_knows_only_the_steps_that_touch_it(sparse):
    torch.manual_seed(0)
    many, alone = torch.nn.Parameter(torch.zeros(4, 3)), torch.nn.Parameter(torch.zeros(1, 3))
    optimizers = RowAdam([many], 0.1), RowAdam([alone], 0.1)
    for rows in ([1], [3, 3], [1], [0, 1, 3]):
        factors = torch.randn(len(rows), 3)
        look_up(many, rows, factors, sparse)
        optimizers[0].step()
        if 1 in rows:
            look_up(alone, [0], factors[rows.index(1)][None], sparse)
            optimizers[1].step()
    assert torch.equal(many[1], alone[0])
    assert not many[2].any(), "never touched"
    assert many[0].square().mean().sqrt().item() == pytest.approx(0.1), "once: as long as the rate"


@pytest.mark.parametrize("limit", [0.5, 100.0, 0.0])
def test_clipping_is_torchs(limit):
    torch.manual_seed(0)
    factors, dense = torch.randn(4, 3), torch.randn(2, 2)
    groups = []
    for sparse in (True, False):
        table, other = torch.nn.Parameter(torch.zeros(5, 3)), torch.nn.Parameter(torch.zeros(2, 2))
        look_up(table, [1, 4, 1, 1], factors, sparse)
        other.grad = dense.clone()
        groups.append([table, other, torch.nn.Parameter(torch.zeros(1))])
    norm = clip(groups[0], limit)
    expected = torch.nn.utils.clip_grad_norm_(groups[1], limit or math.inf)
    assert norm == pytest.approx(expected.item())
    for ours, theirs in zip(groups[0][:2], groups[1][:2], strict=True):
        assert torch.allclose(ours.grad.to_dense(), theirs.grad, atol=1e-6)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_every_parameter_has_one_optimizer(kind, make_model):
    model = make_model()
    optimizers = make_optimizers(model, kind, 0.02, 2e-3, 0.1, 0.03)
    groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    decayed = {id(p) for group in groups if group.get("weight_decay") for p in group["params"]}
    assert decayed == {id(p) for p in model.blocks.parameters() if p.ndim > 1}
    assert all(group["peak"] == group["lr"] for group in groups)
