"""Train LVM-Net: backbone, modified TubeDETR, then sampler and reader together."""
