"""vLLM's tiering offload on a CPU, which its own spec refuses: it copies between the engine's cache
and its region of host memory by CUDA, here that is a copy of rows. All else is vLLM's own."""

import torch
from vllm.v1.kv_offload.base import OffloadingWorker, TransferResult
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec


class TieringOnCpu(TieringOffloadingSpec):
    def get_worker(self, kv_caches):
        if not self._worker:
            region = SharedOffloadRegion(
                engine_id=self.config.engine_id,
                num_chunks=self.num_chunks,
                rank=self.config.parallel.rank,
                kv_bytes_per_chunk=self.kv_bytes_per_chunk,
                cpu_page_size=self.cpu_page_size_per_worker,
            )
            self._worker = RowCopies(kv_caches, self.blocks_per_chunk, region)
        return self._worker


class RowCopies(OffloadingWorker):
    """Copies at once, of models with one group of layers, whose blocks are the tier's chunks."""

    def __init__(self, kv_caches, blocks_per_chunk, region):
        assert len(kv_caches.group_data_refs) == blocks_per_chunk == 1
        self._region = region
        self._pairs = [
            (
                cache.tensor.view(torch.int8).view(-1, cache.page_size_bytes),
                region.create_next_worker_view(cache.page_size_bytes),
            )
            for cache in kv_caches.tensors
        ]
        self._finished = []

    def submit_store(self, job_id, src_spec, dst_spec):
        pages, chunks = src_spec.block_ids.tolist(), dst_spec.block_ids.tolist()
        for cache, host in self._pairs:
            host[chunks] = cache[pages]
        return self._finish(job_id, pages)

    def submit_load(self, job_id, src_spec, dst_spec):
        chunks, pages = src_spec.block_ids.tolist(), dst_spec.block_ids.tolist()
        for cache, host in self._pairs:
            cache[pages] = host[chunks]
        return self._finish(job_id, pages)

    def _finish(self, job_id, pages):
        size = len(pages) * sum(cache.shape[1] for cache, _ in self._pairs)
        self._finished.append(TransferResult(job_id, True, size, 1e-6))
        return True

    def get_finished(self):
        finished, self._finished = self._finished, []
        return finished

    def wait(self, job_ids):
        pass  # nothing is under way

    def shutdown(self):
        self._pairs.clear()
        self._region.cleanup()
