"""How rows reach the device: blocks, scaling, batches, codes as they are given out."""
