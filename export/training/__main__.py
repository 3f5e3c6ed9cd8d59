"""`python -m export.training` is `lvm-train`; `torchrun` starts modules."""

from export.training.cli import main

main()
