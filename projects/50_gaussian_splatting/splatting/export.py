"""Gaussians as a file that other programs read."""

from splatting.config import ExportConfig
from splatting.evaluate import load_gaussians
from splatting.ply import write_ply


def export(config: ExportConfig) -> None:
    """Write the .ply: SuperSplat, Blender add-ons, Houdini and gsplat's viewer know its fields."""
    gaussians, _ = load_gaussians(config.model)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_ply(config.out, gaussians)
    size = config.out.stat().st_size
    print(f"{config.out}: {len(gaussians):,} Gaussians, {size / 1e6:.2f} MB")
