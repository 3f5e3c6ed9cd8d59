"""Train LVM-Net: sampler, memory bank, questions, losses."""
