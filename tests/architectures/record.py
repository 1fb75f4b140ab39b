"""Record what becomes of each architecture: `python -m tests.architectures.record [NAME …]`.

Every architecture of transformers' causal language models that can be built small is tried with
every kind of method; the outcomes are what docs/architectures.md lists. A wrong number is an error
here as in the tests, and is not recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from importlib.metadata import version

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.architectures.models import small_causal_model
from tests.architectures.outcomes import FILE, TESTED, outcomes, recorded
from tests.architectures.page import PAGE, page

LEFT_OUT = (
    # Their text model is listed, or they cannot be made smaller than a real one.
    "blt", "git", "got_ocr2", "moss_transcribe_diarize", "musicgen", "musicgen_melody",
    "phi4_multimodal",
    # Minutes for a step on a CPU without their own kernels.
    "kimi_linear",
)  # fmt: skip


def main() -> None:
    """Try the architectures and write file and page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="model types to try; all where none is named")
    names = parser.parse_args().names or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    found = recorded() if FILE.is_file() else {}
    for name in names:
        if name in LEFT_OUT:
            continue
        try:
            model = small_causal_model(name)
            model(model.dummy_inputs["input_ids"] % 50)
        except Exception as error:
            if name in TESTED:
                raise
            print(f"{name}: not built small ({type(error).__name__})", file=sys.stderr)
            continue
        found[name] = outcomes(name)
        print(f"{name}: {', '.join(sorted(set(found[name].values())))}", file=sys.stderr)
        FILE.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
    PAGE.write_text(page(found, TESTED, version("transformers")))


if __name__ == "__main__":
    main()
