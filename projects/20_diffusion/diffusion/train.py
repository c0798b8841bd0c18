"""Train the denoiser: the whole loop, top to bottom."""

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from diffusion.config import TrainConfig
from diffusion.data import load
from diffusion.evaluate import score, validation_loss
from diffusion.figures import draw_all
from diffusion.model import build
from diffusion.process import make_process
from diffusion.sampling import Trained
from trainloop import Batches, Ema, Run, warmup_cosine


def train(config: TrainConfig) -> dict[str, float | int | None]:
    """Train, watch the validation loss, then sample once, score the samples and draw.

    Raises:
        LabError: nothing to resume, or the data are not there or not fit.
    """
    config = Run.options("diffusion", config)
    data = load(config)
    steps, batch_size, lr = config.recipe
    run = Run.open("diffusion", config)
    run.total = steps
    run.notes |= {"shape": list(data.shape), "classes": list(data.classes)}
    process = make_process(config.schedule, config.T).to(run.device)
    weight = process.weight(config.weighting, config.prediction, config.gamma).float()
    train_set = data.train.to(run.device)

    model = build(data.shape, len(data.classes), config.widths, config.time_scale).to(run.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr, (0.9, 0.99), weight_decay=0.0, fused=True)
    ema = Ema(model, config.ema)
    batches = Batches(len(train_set), batch_size, config.seed)

    start = run.resume(model=model, optimizer=optimizer, ema=ema)
    net = run.parallel(model)
    for step in run.steps(start):
        for group in optimizer.param_groups:
            group["lr"] = lr * warmup_cosine(step, run.total, final=0.0)
        x_0, label = train_set.take(batches.at(step), config.pixels)
        label = hidden(label, config.label_drop, len(data.classes))
        t = stratified(len(x_0), process.T, run.device)
        eps = torch.randn_like(x_0)
        x_0, label, t, eps = run.shard(x_0, label, t, eps)

        x_t = process.add_noise(x_0, eps, t)  # Ho 2020, eq. 4
        with run.autocast():
            prediction = net(x_t, t, label)
        target = process.target(config.prediction, x_0, eps, t)
        error = (prediction.float() - target).square().flatten(1).mean(1)  # (B,)
        loss = (weight[t] * error).mean()  # eq. 14, for whatever is predicted

        optimizer.zero_grad()
        run.scaler.scale(loss).backward()
        run.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        run.scaler.step(optimizer)
        run.scaler.update()
        ema.update()

        run.log(step, loss=loss, grad_norm=norm)
        if run.due(step, config.eval_every):
            run.log(step, **{"val/loss": validation_loss(ema.model, process, config, data)})
            run.save(step)

    averaged, raw = (
        Trained(weights.eval(), process, config, data.shape, data.classes)
        for weights in (ema.model, model)
    )
    if run.is_main:
        scored = score(averaged, data, config.plan, config.samples, config.seed)
        run.log(run.total, **{f"test/{name}": value for name, value in scored.figures.items()})
        if config.pictures:
            draw_all(run, averaged, raw, data, config.plan, scored)
    return run.finish(images_seen=run.total * batch_size)


def stratified(count: int, T: int, device: torch.device) -> Int64[Tensor, " B"]:
    """t = 1..T, each as likely as any other, but spread over a batch: Kingma 2021, app. I.1.

    One draw for all: the loss depends so much on t that independent draws would be most of its
    noise from step to step.
    """
    places = (torch.arange(count, device=device) + torch.rand((), device=device)) / count
    return (places * T).long().clamp(max=T - 1) + 1


def hidden(label: Int64[Tensor, " B"], share: float, classes: int) -> Int64[Tensor, " B"]:
    """Labels with about that share of them replaced by `classes`, which means "none"."""
    return torch.where(torch.rand(len(label), device=label.device) < share, classes, label)


if __name__ == "__main__":  # torchrun --nproc-per-node 2 -m diffusion.train
    from diffusion.cli import train as command

    command()
