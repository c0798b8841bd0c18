"""The loops, end to end, and what is made of their checkpoints."""

import json
import math
from dataclasses import replace

import pytest
import torch

from language_model import use
from language_model.cache import cache
from language_model.compare import VARIANTS, Row, comparison_table, draw
from language_model.config import (
    CacheConfig,
    CompareConfig,
    EvaluateConfig,
    FinetuneConfig,
    LookConfig,
    SampleConfig,
    TrainConfig,
)
from language_model.figures import attention_maps, surprise, surprise_page
from language_model.finetune import finetune
from language_model.gpt2 import load_gpt2
from language_model.tokenizer import Characters
from language_model.train import train
from language_model.trained import Trained, load_trained
from trainloop import LabError, load_checkpoint
from trainloop.checkpoint import save_checkpoint
from trainloop.testing import assert_resume_is_exact


def test_it_learns_a_passage_by_heart(small, runs):
    found = train(small(overfit=150, steps=90, eval_every=45, width=32, batch_size=8))
    assert found["val/loss"] < 0.3
    assert found["test/loss"] == found["val/loss"]
    assert found["test/bits_per_character"] == pytest.approx(found["test/loss"] / math.log(2))
    lines = [json.loads(line) for line in (runs / "latest/metrics.jsonl").open()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 91))
    assert len(list((runs / "latest/samples").iterdir())) == 2


@pytest.mark.parametrize(
    "options", [{}, {"ema": 0.9, "dropout": 0.1, "optimizer": "adamw", "accumulate": 2}]
)
def test_resume_is_exact(options, small, tmp_path, monkeypatch):
    config = small(steps=7, eval_every=4, **options)
    assert_resume_is_exact(train, config, "language-model", 6, tmp_path, monkeypatch)


def test_accumulation_changes_nothing(small, runs):
    whole, parts = (train(small(batch_size=5, accumulate=n)) for n in (1, 2))  # 3 and 2
    for name in ("loss", "grad_norm", "val/loss", "test/loss"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-4)


def test_resuming_with_another_text_is_refused(small, runs, plays):
    train(small(steps=3))
    (runs / "latest/summary.json").unlink()
    for title in plays:
        plays[title] = plays[title].replace("w", "v").replace("z", "w") + "z"
    with pytest.raises(LabError, match="text has changed since"):
        train(small(steps=3, resume=True))


@pytest.mark.parametrize("tokens", ["characters", "bpe"])
def test_pictures_and_uses(tokens, small, runs, capsys, tmp_path):
    drawn = tokens == "characters"
    found = train(small(tokens=tokens, vocabulary=280, pictures=drawn))
    home = runs / "latest"
    pictures = {path.name for path in home.glob("*.png")}
    asked = {"attention.png", "surprise.png", "sampling.png", "tokens.png"} if drawn else set()
    assert pictures == asked
    assert (home / "surprise.html").exists() == drawn
    capsys.readouterr()

    scored = use.evaluate(EvaluateConfig(split="test"))
    assert scored["loss"] == pytest.approx(found["test/loss"], rel=1e-4)
    texts = []
    for cached in (True, False):
        capsys.readouterr()
        use.sample(SampleConfig(prompt="Romeo speaks\\n", tokens=40, cache=cached))
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].startswith("Romeo speaks\n")
    assert len(texts[0]) > 40
    if tokens == "characters":
        with pytest.raises(LabError, match="and not 'X'"):
            use.sample(SampleConfig(prompt="XX"))
    if drawn:  # once of each: a picture takes seconds
        return
    use.look(LookConfig(out=tmp_path / "looks", prompt="Romeo "))
    assert len(list((tmp_path / "looks").iterdir())) == 4


def test_a_network_with_anothers_tokenizer_is_refused(small, runs, tmp_path):
    train(small(steps=3))
    path = runs / "latest/last.pt"
    saved = load_checkpoint(path)
    saved["states"]["tokenizer"] = Characters.of("abc\n").state()
    del saved["trainloop"]
    save_checkpoint(tmp_path / "mixed.pt", saved)
    with pytest.raises(LabError, match=r"has 4 tokens and its network \d\d"):
        load_trained(SampleConfig(checkpoint=str(tmp_path / "mixed.pt")))


@pytest.mark.parametrize("lora", [0, 2])
def test_finetuning_gpt2(lora, plays, runs, gpt2_files, tmp_path, monkeypatch):
    config = FinetuneConfig(
        init=str(gpt2_files), block=16, steps=8, batch_size=4, lr=3e-3, lora=lora, eval_every=4,
        pictures=False, dropout=0.0,
    )  # fmt: skip
    found = finetune(config)
    assert found["test/loss"] < found["before/loss"]
    whole = sum(p.numel() for p in load_gpt2(gpt2_files).parameters())
    thin = 2 * 2 * (3 * 16 + 64 + (3 + 1 + 4 + 1) * 16)  # blocks, rank, inputs and outputs
    assert found["parameters_trained"] == (thin if lora else whole)
    tokens = torch.randint(200, (1, 16))
    kept = load_gpt2(runs / "latest/gpt2").eval()
    newest = load_trained(SampleConfig(checkpoint=str(runs / "latest/last.pt")))
    assert torch.allclose(newest.model(tokens), kept(tokens), atol=1e-4)
    base = load_gpt2(gpt2_files).eval()
    assert not torch.allclose(kept(tokens), base(tokens), atol=1e-3)
    if lora:  # all weights: as in `train`
        assert_resume_is_exact(finetune, config, "language-model", 6, tmp_path, monkeypatch)


def test_gpt2_is_used_as_it_is(gpt2_files, plays, capsys):
    use.sample(SampleConfig(init=str(gpt2_files), prompt="Romeo", tokens=5, temperature=0.0))
    assert capsys.readouterr().out.startswith("Romeo")
    assert use.evaluate(EvaluateConfig(init=str(gpt2_files)))["bits_per_character"] > 1


def test_no_network_names_the_folder(monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(LabError, match=r"put vocab.json, .* into a folder and give its path") as e:
        load_trained(SampleConfig(init="gpt2"))
    assert "\n" not in str(e.value)


def test_files_come_from_the_hub(monkeypatch, gpt2_files):
    import huggingface_hub

    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(gpt2_files)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for name in ("gpt2", "distilgpt2", "someone/else"):
        load_trained(SampleConfig(init=name))
    assert [name for name, _ in asked] == [
        "openai-community/gpt2", "distilbert/distilgpt2", "someone/else",
    ]  # fmt: skip
    assert asked[0][1] == ["vocab.json", "merges.txt", "config.json", "model.safetensors"]


@pytest.mark.parametrize("file", ["vocab.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file(file, gpt2_files, tmp_path):
    for path in gpt2_files.iterdir():
        if path.name != file:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(LabError, match=f"lacks {file}"):
        load_trained(SampleConfig(init=str(tmp_path)))


def test_block_beyond_gpt2s_positions(gpt2_files, plays):
    with pytest.raises(LabError, match="--block 64 is more than the 32 positions"):
        finetune(FinetuneConfig(init=str(gpt2_files), block=64))


# --- pictures ------------------------------------------------------------------------------------


@pytest.fixture
def trained(make_model) -> Trained:
    return Trained(make_model(), Characters("\n <abcdefgh"), "shakespeare", torch.device("cpu"))


def test_attention_maps_are_causal(trained):
    maps = attention_maps(trained.model, torch.randint(11, (9,)))
    assert maps.shape == (2, 2, 9, 9)
    assert torch.equal(maps, maps.tril())
    assert torch.allclose(maps.sum(-1), torch.ones(2, 2, 9))


def test_surprise_is_in_bits_and_escaped(trained):
    found = surprise(trained, "ab<c\nd")
    assert "".join(text for text, _ in found) == "ab<c\nd"
    logits = trained.model(torch.tensor([[0]]))[0, -1]
    assert found[0][1] == pytest.approx(-logits.log_softmax(0)[3].item() / math.log(2), rel=1e-4)
    page = surprise_page(found)
    assert page.count("<span") == 6
    assert "&lt;</span>" in page


# --- studies -------------------------------------------------------------------------------------


def test_the_cache_study(runs):
    threads = torch.get_num_threads()
    config = CacheConfig(steps=20, layers=2, heads=2, width=16, rounds=2, threads=threads)
    found = cache(config)
    assert found["tokens_differing"] == 0
    assert found["speedup"] > 0


@pytest.mark.parametrize("vary", VARIANTS)
def test_variants_are_options_of_train(vary):
    from tyro import cli
    from tyro.conf import FlagCreatePairsOff

    default = TrainConfig()
    for name, options in VARIANTS[vary].items():
        config = cli(TrainConfig, args=options, config=(FlagCreatePairsOff,))
        assert (config == default) == (name == "default")


def test_table_and_figure_of_a_comparison():
    curves = (([1, 2], [3.0, 2.0]),) * 2
    rows = [
        Row("default", 1234, (10.0, 12.0), (2.0, 2.2), curves),
        Row("gelu", 1234, (11.0, 11.0), (2.1, 2.3), curves),
    ]
    table = comparison_table(rows)
    assert "| default | 1,234 | 11 | 2.100 ± 0.141 |  |" in table
    assert "| gelu | 1,234 | 11 | 2.200 ± 0.141 | +0.100 ± 0.000 |" in table
    assert len(draw(rows).axes) == 2


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (TrainConfig, {"steps": 0}), (TrainConfig, {"block": 0}), (TrainConfig, {"heads": 3}),
        (TrainConfig, {"batch_size": 0}), (TrainConfig, {"accumulate": 0}),
        (TrainConfig, {"warmup": 1.0}), (TrainConfig, {"clip": -1.0}),
        (TrainConfig, {"dropout": 1.0}), (TrainConfig, {"ema": -0.1}),
        (TrainConfig, {"weight_decay": -1.0}), (TrainConfig, {"vocabulary": 256}),
        (TrainConfig, {"ngrams": 0}), (TrainConfig, {"buckets": 0}), (TrainConfig, {"lr": 0.0}),
        (TrainConfig, {"lr_rest": 0.0}), (TrainConfig, {"lr_rows": 0.0}),
        (TrainConfig, {"overfit": -1}), (TrainConfig, {"eval_every": 0}),
        (FinetuneConfig, {"lora": -1}), (FinetuneConfig, {"block": 1}),
        (FinetuneConfig, {"lr": 0.0}),
        (SampleConfig, {"tokens": 0}), (SampleConfig, {"temperature": -1.0}),
        (SampleConfig, {"top_k": -1}), (SampleConfig, {"top_p": 0.0}), (SampleConfig, {"seed": -1}),
        (SampleConfig, {"checkpoint": "a", "init": "b"}), (CompareConfig, {"seeds": 0}),
        (CompareConfig, {"workers": -1}), (CacheConfig, {"rounds": 0}), (CacheConfig, {"heads": 5}),
        (CacheConfig, {"threads": 0}),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(config, wrong):
    with pytest.raises(LabError) as caught:
        config(**wrong)
    assert f"--{next(iter(wrong)).replace('_', '-')}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lora_and_an_average_do_not_go_together(gpt2_files, plays):
    config = FinetuneConfig(init=str(gpt2_files), block=16, lora=2)
    with pytest.raises(LabError, match="leave it out with --lora"):
        finetune(replace(config, ema=0.9))
