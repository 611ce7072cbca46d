"""GPU time without Python's: a call captured in a CUDA graph, and the replay timed."""

from collections.abc import Callable

import torch

WARMUP = 3


def captured(call: Callable[[], object], times: int = 1) -> Callable[[], None]:
    """A call that replays ``times`` calls as one graph.

    Its memory is the graph's own and is kept until the returned call is dropped.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            call()
    return graph.replay
