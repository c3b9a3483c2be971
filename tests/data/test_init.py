import importlib
import subprocess
import sys

import pytest
import pytorch_lightning as pl

from lightning_modules.data import DATA


@pytest.mark.parametrize("target", DATA.values())
def test_every_name_leads_to_a_data_part(target: str) -> None:
    module, _, name = target.partition(":")
    assert issubclass(getattr(importlib.import_module(module), name), pl.LightningDataModule)


def test_the_dictionary_is_read_without_importing_torch() -> None:
    code = "import sys, lightning_modules.data; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
