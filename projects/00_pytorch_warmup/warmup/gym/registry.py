"""SPOILERS: for every script of the gym what is wrong, how to mend it and what is to be learned.

Whoever wants to solve them should read no further. Nothing but this file names the faults: the
scripts do not, and `bugs` shows a lesson only after it was earned.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trainloop import check

PRISTINE = Path(__file__).with_name("faults")


@dataclass(frozen=True)
class Fault:
    """One broken script, `faults/<name>.py`."""

    name: str
    """File name without its end; the two digits in front are the number."""
    symptom: str
    """What a colleague would report."""
    look_at: str
    """What to look at in the picture."""
    hints: tuple[str, ...]
    """At most three, from where to look to what to change."""
    cure: tuple[str, str]
    """(old, new): healthy = faulty.replace(old, new, 1)."""
    lesson: str
    """What was learned, and how to notice it the next time."""

    @property
    def number(self) -> int:
        return int(self.name[:2])

    @cached_property
    def faulty(self) -> str:
        """The script as it is handed out."""
        return (PRISTINE / f"{self.name}.py").read_text("utf-8")

    @property
    def healthy(self) -> str:
        """The script as it should be."""
        return self.faulty.replace(*self.cure, 1)


def find(number: int) -> Fault:
    """The script of this number; LabError for a number that there is not."""
    check(1 <= number <= len(FAULTS), f"no bug {number}: there are 1 to {len(FAULTS)}")
    return FAULTS[number - 1]


FAULTS = (
    Fault(
        "01_restless_loss",
        "The loss falls, comes back up and never settles",
        "does the loss stay down once it is down?",
        (
            "Plain SGD has no memory: a step depends on its batch alone. Is that so here?",
            "Print the gradient's length before every step. What becomes of it over ten steps?",
            "`backward` adds to what is in `.grad`. Who empties it?",
        ),
        (
            "            loss.backward()\n",
            "            optimizer.zero_grad()\n            loss.backward()\n",
        ),
        "Gradients accumulate until somebody clears them. Without zero_grad every step follows the "
        "sum of all gradients so far, which acts like momentum without friction: the loss swings. "
        "Notice it by a gradient norm that grows while the loss falls.",
    ),
    Fault(
        "02_never_sure",
        "The loss stops at about 1.5, however long the training",
        "what is the lowest value that the loss comes near to?",
        (
            "The best loss there can be is that of a net which gives the right class all.",
            "log(e + 9) - 1 = 1.46. Which ten numbers did cross_entropy get to arrive at that?",
            "cross_entropy wants logits. What does the net's last layer hand over?",
        ),
        ("        nn.Softmax(dim=1),\n", ""),
        "cross_entropy applies log_softmax itself. Fed with probabilities, which lie in 0..1, it "
        "cannot get below log(1 + 9/e) = 1.46 for ten classes, and gradients are squashed twice. "
        "Notice it by trying to overfit ten images: a healthy loss goes to 0.",
    ),
    Fault(
        "03_moody_test",
        "The same net gets another test accuracy each time it is asked",
        "are the two panels alike, and how high are the curves?",
        (
            "Something is drawn at random while the net is being tested. What?",
            "Two of the layers do one thing in training and another in use.",
            "no_grad turns off gradients, and nothing else.",
        ),
        ("    right = 0\n", "    model.eval()\n    right = 0\n"),
        "Dropout and BatchNorm act by model.training: without model.eval() units are dropped and "
        "batches normalised by themselves in the test too. no_grad has no part in it. "
        "Notice it by evaluating twice: the same weights must give the same number.",
    ),
    Fault(
        "04_coin_toss",
        "The net learns nothing: the loss stays at 2.3",
        "does the loss leave log 10 = 2.303?",
        (
            "Whether a net can learn at all shows on ten images: give it one batch over and over.",
            "You looked at the data before the training. Look at a batch as the loss gets it.",
            "Which label stands beside shuffled[0]?",
        ),
        (
            """\
        shuffled = images[torch.randperm(len(images))]
        losses = []
        for x, y in zip(shuffled.split(batch_size), labels.split(batch_size), strict=True):
            loss = F.cross_entropy(model(x), y)
""",
            """\
        losses = []
        for picked in torch.randperm(len(images)).split(batch_size):
            loss = F.cross_entropy(model(images[picked]), labels[picked])
""",
        ),
        "Images and labels must be shuffled by one and the same order: index both by it, at one "
        "place. A loss that stays at log(classes) says that inputs tell nothing about targets. "
        "Notice it by drawing the very tensors that enter the loss, after all shuffling.",
    ),
    Fault(
        "05_flat_answer",
        "The regression answers with the same number whatever the input",
        "the variance of the targets is about 0.54; what is the loss?",
        (
            "When every prediction is held against every target, the mean is the best answer.",
            "Print the shape of each thing in the loss, the difference too.",
            "(50, 1) minus (50,) is (50, 50).",
        ),
        ("(prediction - target)", "(prediction[:, 0] - target)"),
        "A column (B, 1) minus a row (B,) broadcasts to (B, B): all pairs, and the best answer to "
        "all targets at once is their mean. Nothing warns in arithmetic of one's own. "
        "Notice it by a loss equal to the targets' variance; assert equal shapes in a loss.",
    ),
    Fault(
        "06_bad_company",
        "An image gets another class when it comes alone",
        "are the two panels alike?",
        (
            "What comes out for an image must not depend on the other images. Where can they meet?",
            "Give `pool` one image, then the same image twice. Are the weights the same?",
            "Along which dimension ought an image's weights to add up to 1?",
        ),
        (".softmax(dim=0)", ".softmax(dim=1)"),
        "A softmax over the batch makes images compete with each other; it runs without complaint, "
        "and even learns. State what sums to 1, and assert it: weights.sum(dim=1) == 1. "
        "Notice it by comparing model(batch)[i] with model(batch[i : i + 1]) for any new model.",
    ),
    Fault(
        "07_lost_on_disk",
        "The accuracy is gone after saving and loading",
        "is the loaded net as good as the one that was saved?",
        (
            "What is in the state_dict? Print its names.",
            "Count the parameters by hand, and compare with sum(p.numel() for p in parameters()).",
            "nn.Module takes note of modules that are its attributes. A list is not a module.",
        ),
        (
            "[nn.Linear(width, width) for _ in range(depth - 1)]",
            "nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))",
        ),
        "Layers in a plain Python list are not registered: not saved, not trained, not moved by "
        ".to(device). The net learns all the same, around random layers that never change. "
        "Notice it by counting the parameters, and by a test that loads what it saved.",
    ),
    Fault(
        "08_short_memory",
        "The recurrent net cannot tell a digit by its upper half",
        "how far does the accuracy get beyond that of guessing, 0.1?",
        (
            "The last four rows say nothing here, so all that counts must come through the state.",
            "Let the images require a gradient. Which rows get one?",
            "Through which operation does no gradient flow back?",
        ),
        ("state.detach()", "state"),
        "detach cuts the graph: the state carries the upper rows forward, but no gradient comes "
        "back to say what should be remembered. Detach between sequences, not between steps. "
        "Notice it by input.grad: it is zero where the model cannot learn from.",
    ),
    Fault(
        "09_slow_learner",
        "Training crawls, although the pixels are normalised",
        "how many epochs until the loss is below 1?",
        (
            "Print mean and standard deviation of what enters the first layer, not of the data.",
            "They should be near 0 and 1. Follow an image from load_digits to the first layer.",
            "Two functions use MEAN and STD.",
        ),
        ("    images = (images - MEAN) / STD\n", ""),
        "Normalised twice, the pixels are all about -0.8 and nearly alike, so the net first has to "
        "find the small differences. Have one owner of the normalisation, best the model itself. "
        "Notice it by a hook on the first layer that prints mean and standard deviation.",
    ),
    Fault(
        "10_too_good",
        "Nine of ten in the test, six of ten in the clinic",
        "which of the two accuracies can be believed?",
        (
            "If it is too good to be true: how could the model know of the test patients?",
            "Redraw the test patients' illness by a coin. Does the test accuracy fall to one half?",
            "What was decided by looking at all the patients?",
        ),
        (
            """\
    columns = most_telling(x, ill, keep)
    rows = torch.randperm(len(x))
    cut = int(0.7 * len(x))
""",
            """\
    rows = torch.randperm(len(x))
    cut = int(0.7 * len(x))
    columns = most_telling(x[rows[:cut]], ill[rows[:cut]], keep)
""",
        ),
        "Choosing columns by all labels uses the test labels: of 4,000 columns some fit them by "
        "chance. Split first; whatever is fitted (choice, scaling, imputation) sees training rows "
        "only. Notice it with shuffled labels: the honest test accuracy is then that of a coin.",
    ),
    Fault(
        "11_wild_start",
        "The first epoch is worse than guessing, and then the loss hangs",
        "where does the loss start, and where does it end?",
        (
            "The gradients are right and so are the data. What else enters a step?",
            "How far does one step of Adam move a weight, and how large are these weights?",
            "Adam's usual learning rate is between 1e-4 and 1e-2.",
        ),
        ("lr: float = 0.3", "lr: float = 0.003"),
        "Adam moves every weight by about lr in a step. These weights start within 0.125 of zero, "
        "so steps of 0.3 throw them out at once, and many ReLUs never fire again. Compare the two "
        "sizes. Notice it by a loss that first rises above that of guessing.",
    ),
    Fault(
        "12_turning_loss",
        "After about ten epochs the training loss turns round and rises",
        "does the training loss keep falling?",
        (
            "The task gets harder with time. Compare what the net sees in epochs 1 and 20.",
            "Draw images[0] after the training.",
            "Which operations of `augment` write into the tensor they were given?",
        ),
        (
            "    images += noise * torch.randn_like(images)\n    return images\n",
            "    return images + noise * torch.randn_like(images)\n",
        ),
        "+= writes into the caller's tensor, so the noise of all epochs piles up in the stored "
        "data. A function that returns its result should leave its arguments as they are. "
        "Notice it by a checksum of the data before and after an epoch.",
    ),
    Fault(
        "13_small_portions",
        "The loss jumps about since the batches are fed in portions",
        "is the curve smooth?",
        (
            "Compare the gradient of one batch in portions with the same batch at once.",
            "cross_entropy is a mean over what it is given. What is the sum of 16 means?",
            "The mean of means is the whole's mean only for equal portions. 1,297 is not 128 n.",
        ),
        (
            "                loss.backward()\n",
            "                (loss * len(picked) / len(batch)).backward()\n",
        ),
        "The sum of the portions' mean losses is not the batch's mean loss. Weigh each by its "
        "share of the batch, len(portion) / len(batch): the last ones are shorter. "
        "Notice it by comparing the gradient with that of the undivided batch: they are equal.",
    ),
    Fault(
        "14_early_rest",
        "After the first epoch nothing moves any more",
        "does the loss go on falling after the first epoch?",
        (
            "Nothing moves: are the gradients zero, or the steps?",
            "Print the learning rate at every step.",
            "How many times does the schedule step in an epoch?",
        ),
        (
            "            schedule.step()\n            losses.append(loss.item())\n",
            "            losses.append(loss.item())\n        schedule.step()\n",
        ),
        "A schedule counts its own steps and knows nothing of epochs: 0.8 an epoch, applied at all "
        "21 batches of it, leaves 1% of the learning rate after one. "
        "Notice it by logging the learning rate beside the loss, always.",
    ),
    Fault(
        "15_lost_best",
        "The best weights that were kept are as bad as the last",
        "can the best accuracy so far ever fall?",
        (
            "When were the numbers in `weights` written for the last time?",
            "Keep weights['0.bias'] for two epochs and look whether it changes.",
            "state_dict returns the parameters' own storage.",
        ),
        (
            "weights = model.state_dict()",
            "weights = {name: value.clone() for name, value in model.state_dict().items()}",
        ),
        "state_dict() hands out references to the live parameters, and the optimiser goes on "
        "writing into them. Copy what you want to keep (copy.deepcopy, or a file). "
        "Notice it by evaluating what was kept: the best so far never falls.",
    ),
    Fault(
        "16_missing_digits",
        "Some digits are never the answer",
        "how many digits does the net never get right?",
        (
            "Look at the ten outputs for an image of a digit that is never the answer.",
            "What is the smallest output there is, over all images?",
            "Print the model. What is its last layer?",
        ),
        ("nn.Sequential(*layers)", "nn.Sequential(*layers[:-1])"),
        "A ReLU after the last layer: no logit can be negative, and a class whose logit is 0 for "
        "all images has no gradient and never comes back. Loops that build layers add one too "
        "many. "
        "Notice it by the logits' range, and by printing the model before training it.",
    ),
)
