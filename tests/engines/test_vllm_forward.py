"""What vLLM says of a forward that is about to begin, as the connector asks it."""

import pytest
from kvfs.vllm import versions
from vllm.config import CUDAGraphMode, VllmConfig
from vllm.forward_context import set_forward_context


@pytest.mark.parametrize(
    ("mode", "asks"),
    [(CUDAGraphMode.NONE, True), (CUDAGraphMode.PIECEWISE, True), (CUDAGraphMode.FULL, False)],
)
def test_only_a_graph_of_the_whole_forward_asks_for_no_layer(mode, asks):
    metadata = {"layer": object()}
    with set_forward_context(metadata, VllmConfig(), num_tokens=1, cudagraph_runtime_mode=mode):
        assert versions.forward_asks_for_layers() is asks


def test_without_a_forward_nobody_asks():
    assert not versions.forward_asks_for_layers()
    with set_forward_context(None, VllmConfig()):
        assert not versions.forward_asks_for_layers()
