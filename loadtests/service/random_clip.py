"""A service of a ViT-B/32 with random weights, which cost what trained ones do."""

from pathlib import Path

from loadtests.scorers.product import write_clip

ARCH = "ViT-B-32-quickgelu"


def write_config(folder: Path) -> tuple[Path, Path]:
    """A configuration whose one scorer is clipscore, and the weights that it names."""
    weights = write_clip(ARCH, folder)
    config = folder / "plumbline.yaml"
    scorer = f"{{arch: {ARCH}, checkpoint: {weights}}}"
    config.write_text(f"cache_dir: {folder / 'engines'}\nscorers: {{clipscore: {scorer}}}\n", encoding="utf-8")
    return config, weights
