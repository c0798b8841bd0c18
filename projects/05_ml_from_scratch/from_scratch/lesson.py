"""A lesson as a command of its own: options, figures on the screen, pictures in a folder."""

from importlib import import_module

from trainloop import atomic_write, entry_point, parse, runs_dir

LESSONS = (
    "linear_regression",
    "edge_convolution",
    "k_means",
    "pca",
    "k_nearest",
    "logistic_regression",
    "decision_tree",
    "naive_bayes",
    "gaussian_mixture",
    "autograd",
    "mlp",
    "conv_net",
)
"""In the order of `train`. Each module has a Config and run(config, picture) -> figures."""


def main(name: str) -> None:
    """Run one lesson: `python -m from_scratch.NAME`, or the script of that name."""

    @entry_point
    def command() -> None:
        module = import_module(f"from_scratch.{name}")
        config = parse(module.Config, module.__doc__.splitlines()[0])
        folder = runs_dir() / "from-scratch-lessons" / name
        folder.mkdir(parents=True, exist_ok=True)

        def picture(title: str, figure) -> None:
            path = folder / f"{title}.png"
            atomic_write(path, lambda file: figure.savefig(file, format="png"))
            print(f"picture: {path}")

        print(figures_table(module.run(config, picture)))

    command()


def figures_table(figures: dict[str, float]) -> str:
    """One line a figure."""
    width = max(map(len, figures), default=0)
    return "\n".join(f"{name:<{width}}  {value:.6g}" for name, value in figures.items())
