import importlib
import subprocess
import sys

import pytest

from lightning_modules.data import DATA
from lightning_modules.data.image_set import ImageSet


@pytest.mark.parametrize("target", DATA.values())
def test_every_name_leads_to_a_data_part(target: str) -> None:
    module, _, name = target.partition(":")
    assert issubclass(getattr(importlib.import_module(module), name), ImageSet)


def test_the_dictionary_is_read_without_importing_torch() -> None:
    code = "import sys, lightning_modules.data; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
