"""Write chargen/keywords.py, the types of keyword options, from the configurations.

python tools/keywords.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chargen.lm.config import ModelConfig, TrainConfig
from chargen.options import FieldType, Options
from chargen.sampling.config import SamplingConfig
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig, NetworkConfig
from chargen.text.config import CorpusConfig

PLACE = Path(__file__).parents[1] / "chargen" / "keywords.py"

HEAD = '''\
"""The keyword options of functions, for editors and type checkers.

Made from the fields of the configurations by `python tools/keywords.py`; to change it, change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict
'''

FUNCTIONS: dict[str, tuple[type[Options], ...]] = {
    "TrainOptions": (TrainConfig, ModelConfig, CorpusConfig),
    "SamplingOptions": (SamplingConfig,),
    "FinetuneOptions": (FinetuneConfig, NetworkConfig, ExamplesConfig),
}


def keywords() -> str:
    """Return the contents of the file."""
    return HEAD + "".join(_typed_dict(name, configs) for name, configs in FUNCTIONS.items())


def _typed_dict(name: str, configs: tuple[type[Options], ...]) -> str:
    lines = [f"class {name}(TypedDict, total=False):"]
    owners = ", ".join(f"`{config.__name__}`" for config in configs)
    lines += [f'    """Of {owners}."""', ""]
    for config in configs:
        for field, kind in config.typed_fields():
            if field.metadata["help"]:
                lines.append(f"    {field.name}: {_hint(field.metadata, kind)}")
    return "\n\n" + "\n".join(lines) + "\n"


def _hint(facts: Mapping[str, Any], kind: FieldType) -> str:
    hint = kind.value_type.__name__
    if "choices" in facts:
        hint = f"Literal[{', '.join(json.dumps(choice) for choice in facts['choices'])}]"
    if kind.multiple:
        hint = f"Sequence[{hint}]"
    return f"{hint} | None" if kind.optional else hint


if __name__ == "__main__":
    PLACE.write_text(keywords(), encoding="utf-8")
