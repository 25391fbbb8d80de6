"""Torch modules inside thinc models: batches, gradients, storage, transformer, word pieces."""
