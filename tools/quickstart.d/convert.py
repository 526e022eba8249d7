"""convert.py MODEL-DIRECTORY: unpacks the weights once for all processes."""

import sys
from pathlib import Path

from model import convert

convert(Path(sys.argv[1]))
