"""Teach GPT-2 the plays: all of its weights, or two thin matrices beside each (LoRA)."""

from language_model.config import FinetuneConfig
from language_model.data import Windows, encode, load_corpus
from language_model.evaluate import scores
from language_model.figures import draw_all, passage
from language_model.gpt2 import load_gpt2, save_gpt2
from language_model.hub import gpt2_folder
from language_model.lora import Adapters, add_lora, merge_lora
from language_model.optimizer import make_optimizers
from language_model.tokenizer import BytePairs
from language_model.train import Texts, fit
from language_model.trained import Trained, check_fit
from trainloop import Run, check

LORA_FACTOR = 10  # on the learning rate: B begins at 0


def finetune(config: FinetuneConfig) -> dict[str, float | int | None]:
    """Score GPT-2 as it is, train it, score it again; keep it in the form that transformers reads.

    Raises:
        LabError: GPT-2's files cannot be had, or the text is missing or too short.
    """
    config = Run.options("language-model", config, "finetune")
    folder = gpt2_folder(config.init)
    tokenizer, model = BytePairs.from_gpt2(folder), load_gpt2(folder, config.dropout)
    check_fit(folder, tokenizer, model.shape.vocabulary)
    check(
        config.block <= model.shape.block,
        f"--block {config.block} is more than the {model.shape.block} positions of {config.init}",
    )
    check(
        not (config.lora and config.ema),
        "--ema would average the frozen weights too: leave it out with --lora",
    )
    corpus = load_corpus(config.data)
    tokens = encode(tokenizer, corpus.train)
    windows = Windows(tokens, config.block, config.batch_size, config.seed)
    run = Run.open("language-model", config, "finetune")
    model = model.to(run.device)
    before = scores(model, tokenizer, corpus.test.values(), run.device, config.block)
    lr, adapters = config.lr, None
    if config.lora:
        adapters = Adapters(add_lora(model, config.lora))
        lr *= LORA_FACTOR
    optimizers = make_optimizers(model, "adamw", lr, lr, config.weight_decay)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    texts = Texts(corpus, tokenizer, windows, config.block)
    model = fit(run, config, model, optimizers, texts, adapters)
    if config.lora:
        model = merge_lora(model)

    after = scores(model, tokenizer, corpus.test.values(), run.device, config.block)
    for name in after:
        run.log(run.total, **{f"before/{name}": before[name], f"test/{name}": after[name]})
    if run.is_main:
        save_gpt2(model, run.folder / "gpt2")
        if config.pictures:
            drawn = Trained(model, tokenizer, config.data, run.device)
            draw_all(run.folder, drawn, passage(corpus))
    return run.finish(parameters_trained=trained)
