"""torch_streams.py, where there is a GPU."""

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("there is no GPU", allow_module_level=True)
import torch_streams  # noqa: E402


@pytest.mark.parametrize("seed,name", enumerate(torch_streams.streams()))
def test_a_streams_work_is_waited_for(make_namespace, seed, name):
    namespace = make_namespace(torch_streams.geometry())
    torch_streams.check(namespace, torch_streams.streams()[name], seed * 10)
