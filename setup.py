"""Puts the shipped models and texts into the wheel; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithModels(build_py):
    """Copies what `checkpoints/` and `corpora/` hold to `chargen/models/` and `chargen/texts/`.

    Only what belongs to the project: folders with a model card, and the texts that are named here.
    """

    texts = (
        *("LICENSE", "essays.txt", "tales.txt", "novella.txt"),
        *("opinions.csv", "opinions-heldback.csv"),
    )

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # found in the checkout
        for card in Path("checkpoints").glob("*/MODEL_CARD.md"):
            target = Path(self.build_lib) / "chargen" / "models" / card.parent.name
            shutil.copytree(card.parent, target, dirs_exist_ok=True)

        folder = Path(self.build_lib) / "chargen" / "texts"
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.texts:
            shutil.copy(Path("corpora") / name, folder / name)


setup(cmdclass={"build_py": BuildWithModels})
