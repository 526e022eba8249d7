"""KvfsConnector: vLLM's interface, handed on to Scheduler and Worker."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1 import base

import kvfs

from . import metrics, model, versions
from .attachment import Attachment
from .events import Events
from .failures import Failures
from .messages import Load, Report, Step
from .ranks import Follower, Leader, Share
from .scheduler import Scheduler
from .stores import JoiningStores, LeadingStores, NoStores
from .worker import Unattached, Worker

logger = logging.getLogger("vllm.kvfs")


def _dram_bytes(gib) -> int | None:
    if gib is None:
        return None
    if isinstance(gib, bool) or not isinstance(gib, int | float) or not 0 <= gib < 1 << 20:
        raise ValueError(f"kvfs: dram_gib is a number of GiB, not {gib!r}")
    return int(gib * (1 << 30))


@dataclass
class _Metadata(base.KVConnectorMetadata):
    step: Step = field(default_factory=Step)


@dataclass
class _WorkerMetadata(versions.WorkerMetadata):
    report: Report

    def aggregate(self, other: _WorkerMetadata) -> _WorkerMetadata:
        return _WorkerMetadata(self.report.add(other.report))


class KvfsConnector(base.KVConnectorBase_V1, versions.SupportsHMA):
    """See kvfs.vllm. One of each role: in the scheduler's process and in the worker's.

    While there is no mount there is no scheduler's side, and a worker's side that loads nothing:
    the engine runs as without a connector.
    """

    def __init__(self, vllm_config, role, kv_cache_config):
        super().__init__(vllm_config, role, kv_cache_config)
        options = dict(vllm_config.kv_transfer_config.kv_connector_extra_config)
        path = options.pop("path", None)
        name = options.pop("namespace", None)
        encoding = options.pop("encoding", "raw")
        self._required = bool(options.pop("required", False))
        self._options = {
            "break_even": bool(options.pop("break_even", True)),
            "store_decode": bool(options.pop("store_decode", True)),
            "forget_on_reset": bool(options.pop("forget_on_reset", True)),
            "images": versions.images_are_named_by_content(vllm_config),
        }
        self._provide = _dram_bytes(options.pop("dram_gib", None))
        if not path or options:
            unknown = f"; not known: {', '.join(options)}" if options else ""
            raise ValueError(f"kvfs: kv_connector_extra_config needs path, the mount{unknown}")
        # A block that could not be loaded is computed. vLLM's own default fails the request.
        vllm_config.kv_transfer_config.kv_load_failure_policy = "recompute"
        self._scheduler: Scheduler | None = None
        self._worker: Worker | Unattached = Unattached()
        self._namespace: kvfs.Namespace | None = None
        self._model: model.Model | None = None
        self._pages: list[kvfs.Pages] = []
        self._share: Share | None = None
        self._events: Events | None = None
        self._tells_events = versions.tells_events(vllm_config)
        self._engine_id = vllm_config.kv_transfer_config.engine_id
        self._failed_loads: list[Load] = []
        self._attachment: Attachment | None = None
        try:
            self._model = model.describe(vllm_config, kv_cache_config, encoding)
        except model.Unsupported as error:
            if self._required:
                raise
            logger.warning("kvfs: going on without cache: %s", error)
            return
        self._attachment = Attachment(
            path,
            name or self._model.name,
            self._model.geometry,
            self._attached,
            chosen=name is not None,
            required=self._required,
        )

    @property
    def requires_kv_delivery(self) -> bool:
        return False  # a store that is lost is a later miss

    def _attached(self, namespace) -> None:
        """Perhaps on a thread of its own, beside calls of the engine: the scheduler comes last."""
        self._namespace = namespace
        if self.role == base.KVConnectorRole.SCHEDULER:
            self._events = Events(namespace) if self._tells_events else None
            self._scheduler = Scheduler(
                namespace, **self._options, null_page=versions.NULL_PAGE, events=self._events
            )
            logger.info("kvfs: %s/%s", namespace.mount, namespace.name)

    # ---- worker

    def register_kv_caches(self, kv_caches):
        if self._model is None:
            return
        groups = self._model.groups
        heads = groups[0].spec.num_kv_heads
        share = Share.of(versions.rank(), self._model.ranks, self._model.total_heads, heads)
        self._worker.leads = share.rank == 0
        try:
            self._pages = [
                versions.pages(
                    [kv_caches[name] for name in group.layer_names],
                    group.spec,
                    of_group.kv_factor,
                    self._kv_cache_config.num_blocks,
                    share.first_head,
                )
                for group, of_group in zip(groups, self._model.geometry.groups, strict=True)
            ]
        except ValueError as error:
            if self._required:
                raise
            logger.warning("kvfs: going on without cache: %s", error)
            self._worker.for_good = True  # the scheduler hears of it with the first load or store
            return
        self._share = share
        versions.settle_before_sleep(self._vllm_config, self)
        self._attach_worker()

    def settle(self):
        """Nothing of kvfs reads or writes the engine's pages when this returns."""
        self._worker.settle()

    def _attach_worker(self):
        """At once, or with the first step after the mount has come."""
        ready = self._namespace is not None and self._share is not None
        if ready and isinstance(self._worker, Unattached):
            layers = versions.layers_asked_for(self._model.groups)
            self._worker = Worker(
                self._namespace,
                self._pages,
                self._stores(),
                layers=layers,
                provide=self._provide,
            )

    def _stores(self):
        """What this rank does of stores."""
        share, failures = self._share, Failures()
        if share.rank == 0:
            leader = Leader(self._engine_id, share.writers - 1) if share.writers > 1 else None
            return LeadingStores(self._namespace, self._pages, failures, leader)
        if share.writes:
            follower = Follower(self._engine_id)
            return JoiningStores(self._namespace, self._pages, failures, follower)
        return NoStores()

    def bind_connector_metadata(self, connector_metadata):
        super().bind_connector_metadata(connector_metadata)
        self._attach_worker()
        step = connector_metadata.step
        self._worker.flush(step)
        # Here, since vLLM calls start_load_kv behind the forward where it may.
        if step.computes and not versions.forward_asks_for_layers():
            self._worker.wait_layers()

    def handle_preemptions(self, kv_connector_metadata):
        self._worker.flush(kv_connector_metadata.step)

    def start_load_kv(self, forward_context, **kwargs):
        step = self._connector_metadata.step
        if step.loads:
            self._worker.load(step, versions.stream())

    def wait_for_layer_load(self, layer_name):
        self._worker.wait_layer(layer_name)

    def save_kv_layer(self, layer_name, kv_layer, attn_metadata, **kwargs):
        pass  # blocks are stored whole, see wait_for_save

    def wait_for_save(self):
        if self._connector_metadata.step.stores:
            self._worker.store(self._connector_metadata.step, versions.stream())

    def get_finished(self, finished_req_ids):
        finished, failed = self._worker.poll()
        self._failed_loads += failed
        return None, finished or None

    def get_block_ids_with_load_errors(self):
        """Failed loads of one group; several are told by get_transfer_results."""
        if self._several_groups():
            return set()
        failed, self._failed_loads = self._failed_loads, []
        return {page for load in failed for run in load.runs for page in run.pages.tolist()}

    def get_transfer_results(self, finished_req_ids):
        results = super().get_transfer_results(finished_req_ids)
        if self._several_groups():
            failed, self._failed_loads = self._failed_loads, []
            results.failed_recving |= {load.request_id for load in failed}
        return results

    def _several_groups(self) -> bool:
        return len(self._kv_cache_config.kv_cache_groups) > 1

    def build_connector_worker_meta(self):
        report = self._worker.report()
        return _WorkerMetadata(report) if report else None

    # ---- scheduler

    def on_new_request(self, request):
        if self._scheduler:
            self._scheduler.add(request)

    def get_num_new_matched_tokens(self, request, num_computed_tokens):
        if not self._scheduler:
            return 0, False
        tokens = self._scheduler.match(request, num_computed_tokens)
        return tokens, bool(tokens)

    def update_state_after_alloc(self, request, blocks, num_external_tokens):
        if self._scheduler and num_external_tokens > 0:
            self._scheduler.allocated(request, blocks.get_block_ids(), num_external_tokens)

    def get_external_cache_hit_sources(self, request, num_external_tokens):
        if not self._scheduler or versions.CacheHitSource is None:
            return super().get_external_cache_hit_sources(request, num_external_tokens)
        dram, lower = self._scheduler.hit_tokens(request, num_external_tokens)
        source = versions.CacheHitSource
        return {s: n for s, n in ((source.HOST, dram), (source.DISK, lower)) if n}

    def build_connector_meta(self, scheduler_output):
        if not self._scheduler:
            return _Metadata()
        return _Metadata(self._scheduler.build(scheduler_output))

    def update_connector_output(self, connector_output):
        if self._scheduler:
            meta = connector_output.kv_connector_worker_meta
            report = meta.report if isinstance(meta, _WorkerMetadata) else None
            self._scheduler.learn(report, connector_output.finished_recving)

    def take_events(self):
        if self._events is None:
            return ()
        return versions.kv_events(self._events.take(), self._namespace.block_tokens)

    def get_kv_connector_stats(self):
        counts = self._scheduler.counts.take() if self._scheduler else None
        return metrics.Stats(data=counts) if counts else None

    @classmethod
    def build_kv_connector_stats(cls, data=None):
        return metrics.Stats(data=data or {})

    @classmethod
    def build_prom_metrics(cls, vllm_config, metric_types, labelnames, per_engine_labelvalues):
        return metrics.PromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    def request_finished(self, request, block_ids):
        if self._scheduler:
            self._scheduler.finished(request.request_id)
        params = getattr(request, "kv_transfer_params", None) or {}
        answer = {"do_remote_prefill": True} if params.get("do_remote_decode") else None
        return False, answer  # pages are free: stores that still read them end before reuse

    def request_finished_all_groups(self, request, block_ids):
        return self.request_finished(request, block_ids)

    def reset_cache(self):
        if self._scheduler:
            self._scheduler.reset()
        return True

    def shutdown(self):
        if self._attachment:
            self._attachment.close()
        self._worker.close()
        if self._scheduler:
            self._scheduler.close()
        if self._namespace:
            self._namespace.close()
        self._scheduler = self._namespace = self._events = self._share = None
        self._worker, self._pages = Unattached(), []  # nothing keeps the engine's memory
