"""JupyterLab as the course wants it:  jupyter lab --config=scripts/lab.py

The server's root is the checkout, where the pictures lie that the text shows, and notebook 00 is open. What is saved
carries nothing of one machine, so that git sees no change in a notebook that was only opened and saved.
"""

import sys
import warnings
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
sys.path.append(str(SCRIPTS))

from clean_notebooks import before_saving  # noqa: E402

warnings.filterwarnings("ignore", "Overriding existing pre_save_hook")  # Jupyter sets it twice
c = get_config()  # noqa: F821 - Jupyter runs this file with it
c.ServerApp.root_dir = str(SCRIPTS.parent)
c.LabApp.default_url = "/lab/tree/notebooks/00_gan_in_2d.ipynb"
c.FileContentsManager.pre_save_hook = before_saving
