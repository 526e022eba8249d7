"""Parts of the vLLM connector that know neither of its sides: what is learnt of speeds, arrays that
grow, a mount that comes later."""

import threading

import kv_data
import kvfs
import pytest
from kvfs.vllm.attachment import Attachment
from kvfs.vllm.break_even import BreakEven
from kvfs.vllm.growing import Growing


def test_break_even_loads_what_is_faster_than_computing():
    speeds = BreakEven(block_tokens=16)
    assert speeds.worth(10, 4) == 10  # nothing is known yet
    speeds.computed(1600, 1.0)  # 100 blocks a second
    speeds.loaded(1000, 1000, 1.0)
    assert speeds.worth(10, 4) == 10
    speeds.loaded(50, 0, 1.0)  # below DRAM: 50 blocks a second
    assert speeds.worth(10, 4) == 4
    speeds.loaded(100_000, 0, 1.0)
    assert speeds.worth(10, 4) == 10
    speeds.loaded(100, 99, 1e-3)  # quicker than those from DRAM were: it says nothing of the last
    assert speeds.lower_blocks_per_s < 100_000
    slow = BreakEven(block_tokens=16)
    slow.computed(1600, 1.0)
    slow.loaded(10, 10, 1.0)
    offered = [slow.worth(10, 10) for _ in range(64)]
    assert sorted(set(offered)) == [0, 10]
    assert offered.count(10) == 2  # now and then, to measure again


def test_views_of_a_growing_array_stay():
    growing = Growing([1, 2, 3])
    view = growing.first(3)
    for value in range(1000):
        growing.extend([value])
    assert view.tolist() == [1, 2, 3]
    assert growing.first(len(growing)).tolist() == [1, 2, 3, *range(1000)]
    assert len(Growing()) == 0


def test_a_mount_that_comes_later_is_attached(make_daemon, monkeypatch, caplog):
    monkeypatch.setattr("kvfs.vllm.attachment._RETRY_S", 0.05)
    daemon = make_daemon()
    daemon.stop()
    came = threading.Event()
    opened = []

    def ready(namespace):
        opened.append(namespace)
        came.set()

    geometry = kv_data.geometry()
    with pytest.raises(kvfs.Error):
        Attachment(daemon.mount, "late", geometry, ready, required=True)
    attachment = Attachment(daemon.mount, "late", geometry, ready)
    assert "going on without cache" in caplog.text
    daemon.start()
    assert came.wait(60)
    # Another geometry under the same name gets a name of its own; a chosen name is refused.
    wider = kv_data.geometry(head_dim=16)
    Attachment(daemon.mount, "late", wider, ready)
    assert opened[1].name.startswith("late-")
    with pytest.raises(kvfs.Mismatch):
        Attachment(daemon.mount, "late", wider, ready, chosen=True, required=True)
    attachment.close()
    for namespace in opened:
        namespace.close()
