"""The first ten minutes on a GPU: values, training, compilation, times. ``tools/gpu_check.py`` is its command."""
