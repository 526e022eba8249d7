"""What names the weights of an adapter: its files, as the engine has read them."""

from types import SimpleNamespace

import pytest
from kvfs.vllm import weights
from kvfs.vllm.identity import cacheable, extras

BLOCK = 16


@pytest.fixture
def files(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 8}')
    (tmp_path / "adapter_model.safetensors").write_bytes(bytes(4 << 20))
    return tmp_path


@pytest.fixture
def named(files):
    """named(number) -> what an adapter is named by, always with the same name and path; None where
    its requests are not cached."""

    def name(number, **more):
        lora = SimpleNamespace(lora_name="a", lora_int_id=number, lora_path=str(files), **more)
        request = SimpleNamespace(lora_request=lora, prompt_token_ids=[1])
        return extras(request, BLOCK) if cacheable(request) else None

    weights._adapters.clear()
    return name


def change(files, what):
    if what == "weights":
        with (files / "adapter_model.safetensors").open("r+b") as file:
            file.seek(3 << 20)
            file.write(b"x" * (1 << 13))
    else:
        (files / "adapter_config.json").write_text('{"lora_alpha": 16}')


@pytest.mark.parametrize("what", ["weights", "configuration"])
def test_other_files_under_the_same_name_and_path_are_another_adapter(files, named, what):
    before = named(1)
    assert named(2) == before
    change(files, what)
    assert named(3) != before


def test_an_adapter_whose_files_have_changed_is_not_cached_under_either_name(files, named):
    """vLLM may have what it read, or have read it anew since it needed the room for another."""
    before = named(1)
    change(files, "weights")
    assert named(1) is None
    after = named(1, load_inplace=True)
    assert after not in (None, before)
    assert named(1) == after


def test_only_the_files_that_vllm_reads_count(files, named):
    before = named(1)
    (files / "optimizer.pt").symlink_to(files / "gone")
    assert named(1) == named(2) == before


@pytest.mark.parametrize("what", ["a dangling link", "a home of nobody"])
def test_an_adapter_that_cannot_be_read_is_not_cached(files, what):
    path = files
    if what == "a dangling link":
        (files / "adapter_model.bin").symlink_to(files / "gone")
    else:
        path = "~nobody-has-this-name/adapter"
    lora = SimpleNamespace(lora_name="a", lora_int_id=9, lora_path=str(path))
    assert not cacheable(SimpleNamespace(lora_request=lora, prompt_token_ids=[1]))


def test_what_vllm_reads_with_each_request_is_named_anew(files, named):
    before = named(1, load_inplace=True)
    change(files, "weights")
    assert named(1, load_inplace=True) != before


def test_an_adapter_that_is_not_on_this_machine_has_its_name():
    lora = SimpleNamespace(lora_name="a", lora_int_id=7, lora_path="somebody/adapter")
    other = SimpleNamespace(lora_name="b", lora_int_id=8, lora_path="somebody/adapter")
    found = [extras(SimpleNamespace(lora_request=one), BLOCK) for one in (lora, other)]
    assert found[0] != found[1]
