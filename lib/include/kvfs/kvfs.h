/* libkvfs: the client library's C API.
 *
 * A client opens one namespace of a mounted kvfs, asks how much of a prompt is cached (kvfs_match:
 * no system call), holds a cached prefix (kvfs_acquire: a lease) and copies its blocks to where the
 * engine wants them (kvfs_load), or reserves slots, copies the engine's KV into them and publishes
 * them (kvfs_reserve, kvfs_store, kvfs_commit).
 *
 * Every function that can fail returns a kvfs_status; kvfs_last_error() then has a sentence for the
 * calling thread that names the thing and the remedy. Output arguments are written on success only,
 * unless said otherwise. Threads: every object may be used from any thread; one object's
 * close/free/release call must not run beside another call on it. Fork: objects do not survive
 * fork(): in a child every call on one returns KVFS_FORKED (and free/close calls do nothing to the
 * parent's); open the namespace again there. Time: calls that wait for blocks, the disk or a
 * transfer take a timeout in milliseconds; 0 = do not wait, negative = forever. The daemon keeps
 * it, also when its disk hangs; a daemon that dies ends calls with KVFS_UNAVAILABLE. The other
 * calls take none: the daemon answers them at once, kvfs_reserve within its store_timeout (10 s)
 * where only blocks on their way to the disk make room. What no timeout bounds is a daemon that
 * exists and does not run (SIGSTOP, a frozen cgroup): a request that the kernel has handed to it
 * comes back only with its answer or its end, so calls that ask it hang until it goes on;
 * kvfs_match on a mapped client, copies under way and kvfs_transfer_wait with a timeout do not.
 * (sysctl fs.fuse.default_request_timeout, set before mounting, has the kernel give up such a
 * mount.) Memory given to kvfs stays the caller's and must stay valid until the call returns or,
 * for transfers, until the transfer is complete.
 */
#ifndef KVFS_KVFS_H
#define KVFS_KVFS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(KVFS_BUILDING_LIBRARY)
#define KVFS_API __attribute__((visibility("default")))
#else
#define KVFS_API
#endif

typedef enum kvfs_status {
  KVFS_OK = 0,
  KVFS_INVALID = 1,   /* an argument is wrong; nothing was done */
  KVFS_NOT_FOUND = 2, /* not a kvfs mount, no such namespace, prefix or reservation (evicted
                         meanwhile: match again) */
  KVFS_EXISTS = 3,
  KVFS_MISMATCH = 4, /* geometry or format version differs from what the namespace has */
  KVFS_PERMISSION = 5,
  KVFS_NO_SPACE = 6, /* a tier is full and nothing in it may leave */
  KVFS_BUSY = 7,
  KVFS_CORRUPT = 8, /* a block failed its checksum, or could not be read from its disk: recompute */
  KVFS_IO = 9,
  KVFS_TIMEOUT = 10,
  KVFS_UNAVAILABLE = 11, /* the daemon is gone, or this machine cannot do it: treat as a miss */
  KVFS_FORKED = 12
} kvfs_status;

KVFS_API const char* kvfs_status_name(kvfs_status status); /* "ok", "not_found", ... ; static */
KVFS_API const char* kvfs_last_error(
    void); /* of this thread's last failed call; valid until its next call */
KVFS_API const char* kvfs_version(void);

/* ---- geometry ---- */

typedef enum kvfs_dtype {
  KVFS_F32 = 0,
  KVFS_F16 = 1,
  KVFS_BF16 = 2,
  KVFS_F8_E4M3 = 3,
  KVFS_F8_E5M2 = 4,
  KVFS_I8 = 5,
  KVFS_U8 = 6
} kvfs_dtype;

#define KVFS_MAX_GROUPS 16

/* Layers that are cached alike. block bytes = kv_factor * layers * kv_heads * head_dim *
 * block_tokens * sizeof(dtype) */
typedef struct kvfs_group {
  uint32_t layers;
  uint32_t kv_heads;
  uint32_t head_dim;
  uint32_t kv_factor; /* 2: K and V; 1: MLA */
  uint32_t window;    /* tokens of a sliding window; 0: full attention */
} kvfs_group;

typedef struct kvfs_geometry {
  const char* model; /* e.g. "HuggingFaceTB/SmolLM2-135M-Instruct" */
  kvfs_dtype dtype;
  uint32_t block_tokens; /* 0: 16 */
  const char* salt;      /* tenant, part of every key; NULL: none */
  const char* layout;    /* NULL: "canonical"; else "opaque:<tag>" */
  const char* encoding;  /* NULL: "raw"; "packed": BF16 in three quarters of its bytes, bit for bit
                            (block_tokens a multiple of 16, head_dim of 8); "fp8", "int8": BF16, F16
                            or F32 rounded to a byte a number, with a scale for each layer's K and V
                            of a head (block_tokens * head_dim a multiple of 8) */
  uint32_t group_count;
  kvfs_group groups[KVFS_MAX_GROUPS];
} kvfs_geometry;

/* ---- opening ---- */

typedef struct kvfs_client kvfs_client; /* one namespace of one mount */

/* Creates a namespace; with one of the same geometry there it returns KVFS_OK, with another
 * KVFS_MISMATCH and a sentence naming the difference. Needs the right to write
 * <mount>/.kvfs/control. */
KVFS_API kvfs_status kvfs_create_namespace(const char* mount, const char* name,
                                           const kvfs_geometry* geometry);

typedef struct kvfs_open_options {
  uint32_t size;           /* sizeof(kvfs_open_options) */
  uint32_t read_only;      /* 1: slabs are mapped read-only; reserve is refused */
  uint32_t force_fallback; /* 1: do not map slabs, copy through read(2) (for tests and doubt) */
  uint32_t copy_threads;   /* host copies: threads per transfer; 0: min(4, cores) */
  int32_t timeout_ms;      /* for opening; 0: 5000 */
  int32_t reserved;
} kvfs_open_options;

/* `expected` may be NULL; otherwise the namespace's geometry must equal it (KVFS_MISMATCH).
 * `options` may be NULL. */
KVFS_API kvfs_status kvfs_open(const char* mount, const char* name, const kvfs_geometry* expected,
                               const kvfs_open_options* options, kvfs_client** client);
/* Leases and reservations must be released before; transfers are waited for. NULL is allowed. */
KVFS_API void kvfs_close(kvfs_client* client);

/* Strings in `geometry` live as long as the client. */
KVFS_API kvfs_status kvfs_client_geometry(const kvfs_client* client, kvfs_geometry* geometry);
KVFS_API uint64_t kvfs_block_bytes(const kvfs_client* client, uint32_t group);

typedef struct kvfs_client_stats {
  uint32_t size;   /* sizeof(kvfs_client_stats) */
  uint32_t mapped; /* 1: slabs are mapped (passthrough); 0: fallback */
  uint64_t matches, matched_blocks, leases, lost_leases, reattached;
  uint64_t loaded_bytes, stored_bytes; /* as they are stored: encoded, if they are */
} kvfs_client_stats;
KVFS_API kvfs_status kvfs_client_get_stats(const kvfs_client* client, kvfs_client_stats* stats);

/* Half of the DRAM that the namespace has and of what no namespace has. */
#define KVFS_PROVIDE_HALF UINT64_MAX

/* Maps what the namespace has in DRAM now, for an engine to call (from a thread of its own) before
 * its first load: without it each slab of DRAM is mapped when it is first used, and pinned for a
 * GPU behind that; copies go a slower way until then, and pinning holds up what the engine launches
 * meanwhile. `engine_pointer`: anywhere in the engine's KV memory; the device it belongs to is made
 * at once, so that pinning begins now. NULL: with the first copy. `provide`: bytes of DRAM that the
 * namespace is to have before that, with blocks in it or not, so that stores find it mapped, too;
 * as far as there is DRAM that no namespace has, in whole slabs. It stays the namespace's until
 * another one needs it. 0: what an earlier call has said, or what it has. A client that may not
 * store leaves it out. `bytes` may be NULL: of all slabs that are mapped now. Calls the daemon once
 * for each of them and does not wait for pinning; loads and stores go on beside it. What a daemon
 * that the client finds later has is provided and mapped by the client itself, within some seconds;
 * slabs that the namespace gets later are mapped when they are used. A client that does not map
 * slabs: KVFS_OK, 0 bytes, nothing is provided. KVFS_UNAVAILABLE: the daemon is gone, or the device
 * cannot be made. After an error all works as without the call; slabs that could be mapped are. */
KVFS_API kvfs_status kvfs_map_slabs(kvfs_client* client, const void* engine_pointer,
                                    uint64_t provide, uint64_t* bytes);

/* ---- finding ---- */

typedef struct kvfs_key {
  uint64_t lo, hi; /* file name: 16 hex digits of hi, 16 of lo, ".safetensors" */
} kvfs_key;

/* Bytes that belong to a block's identity beside its tokens, e.g. a LoRA id (usually for block 0)
 * or an image's hash. Sorted by block. */
typedef struct kvfs_extra {
  uint32_t block;
  uint32_t bytes_size;
  const void* bytes;
} kvfs_extra;

/* A prompt. Only full blocks count: floor(token_count / block_tokens). Tokens are >= 0. */
typedef struct kvfs_prompt {
  const int32_t* tokens;
  size_t token_count;
  const kvfs_extra* extras; /* may be NULL */
  size_t extra_count;
} kvfs_prompt;

typedef struct kvfs_match_result {
  uint32_t blocks;      /* longest cached prefix, in blocks; 0: a miss */
  uint32_t dram_blocks; /* of those, in DRAM (a hint; 0 in a client that does not map slabs) */
  uint64_t tokens;      /* blocks * block_tokens */
  kvfs_key key;         /* of its last block; zero for a miss */
} kvfs_match_result;

/* How long a prefix is cached. Mapped clients: no system call, no lock, and the tokens of each
 * block are compared; others ask by key, a 128-bit hash of the tokens. A match holds nothing:
 * acquire does. */
KVFS_API kvfs_status kvfs_match(kvfs_client* client, const kvfs_prompt* prompt,
                                kvfs_match_result* result);

/* Begins to bring a prefix into DRAM; returns at once. */
KVFS_API kvfs_status kvfs_prefetch(kvfs_client* client, const kvfs_key* key);

/* ---- where KV is in the engine ---- */

/* One group's KV in the engine's memory. Element (kv, layer, token, head, :) of head_dim contiguous
 * elements is at
 *
 *   layers[layer] + kv * kv_stride + page * page_stride + slot * token_stride + head * head_stride
 *
 * for the token at prefix position t: paged (page_table != NULL), p = t - first_token:
 *   page = page_table[p / page_tokens], slot = p % page_tokens;
 * strided (page_table == NULL): page = 0, slot = t - first_token.
 * Strides are bytes. head counts from 0 for head `first_head` of the block: a tensor-parallel rank
 * gives the range of heads it has. page_tokens may divide or be a multiple of block_tokens.
 * Pointers are all host or all of one device. Where K and V are allocations of their own
 * (layer_count = kv_factor * layers), layers[layer * kv_factor + kv] takes the place of
 * layers[layer] + kv * kv_stride. Blocks of layout "opaque:*" keep the order of their bytes: pages
 * must be of block_tokens tokens, and those of one layer, head and plane (K or V) one run of memory
 * (token_stride = the bytes of head_dim elements); else see kvfs_blocks. */
typedef struct kvfs_pages {
  uint32_t size;        /* sizeof(kvfs_pages) */
  uint32_t layer_count; /* the group's layers; or kv_factor * layers: K and V apart */
  void* const* layers;
  int64_t kv_stride; /* unused when kv_factor is 1 or K and V are apart */
  int64_t page_stride;
  int64_t token_stride;
  int64_t head_stride;
  uint32_t first_head;
  uint32_t head_count;       /* 0: all from first_head */
  uint32_t page_tokens;      /* paged only */
  uint32_t page_count;       /* entries of page_table */
  const int32_t* page_table; /* host memory; copied by the call */
  uint64_t first_token;      /* prefix position of page_table[0]'s first token (or of slot 0) */
} kvfs_pages;

/* Whole blocks in the canonical order, or the opaque layout's own; decoded, whatever the encoding:
 * blocks[i] is the address of block first_block + i, block_bytes long. */
typedef struct kvfs_blocks {
  uint32_t size; /* sizeof(kvfs_blocks) */
  uint32_t count;
  void* const* blocks;
} kvfs_blocks;

/* ---- transfers ---- */

typedef struct kvfs_transfer kvfs_transfer; /* a load or store under way */

typedef struct kvfs_transfer_options {
  uint32_t size;         /* sizeof(kvfs_transfer_options) */
  int32_t timeout_ms;    /* of a load: how long blocks that are not in DRAM are waited for; 0:
                            30000; negative: for ever. Copying itself has no deadline, nor has a
                            store */
  void* stream;          /* a CUDA stream: the transfer begins after what it was given before the
                            call; the stream itself does not wait for the transfer. NULL: none. The
                            default stream's handle is NULL too: give cudaStreamLegacy or
                            cudaStreamPerThread for it. Host memory: ignored */
  uint32_t layer_step;   /* kvfs_load: so many layers at a time, in order, in all blocks, for
                            kvfs_transfer_wait_layers; 0: all layers of a block together */
  uint32_t layer_blocks; /* with layer_step: the last so many blocks come so, those before with all
                            layers, which is quicker; 0: all blocks come so */
  uint32_t reserved[2];
} kvfs_transfer_options;

/* Waits; returns the transfer's own status, or KVFS_TIMEOUT when it is not complete yet (it goes
 * on). */
KVFS_API kvfs_status kvfs_transfer_wait(kvfs_transfer* transfer, int32_t timeout_ms);
KVFS_API int kvfs_transfer_done(kvfs_transfer* transfer); /* 1: complete (also when failed) */
/* Layer by layer: an engine may compute with the first layers while the last are on their way.
 * Waits until the group's first `layers` layers of all blocks are in the engine's memory; returns
 * as kvfs_transfer_wait where the transfer ends before. With options.layer_step the layers come in
 * such steps (of the last options.layer_blocks blocks, when the others are there); without, or
 * where blocks move whole (kvfs_load_blocks, opaque layouts, a client that does not map slabs), all
 * at the end.
 *
 * A step is worth as much as computing its layers takes, and costs this: a block has each head's
 * layers side by side, so it is copied in pieces of kv_factor * layer_step * block_tokens *
 * head_dim elements, a step has its own start and end, and blocks that are not in DRAM are all
 * waited for by the first one. Copies in host memory lose nothing to it; a GPU's link does at
 * pieces much below 64 KiB as they are stored, which is 8 layers of Llama-3.1-8B, 11 of it packed.
 * Few steps: 4 of 32 layers leave an engine a quarter of the time to wait for. */
KVFS_API kvfs_status kvfs_transfer_wait_layers(kvfs_transfer* transfer, uint32_t layers,
                                               int32_t timeout_ms);
KVFS_API uint32_t kvfs_transfer_layers(kvfs_transfer* transfer); /* how many are there by now */
/* An eventfd that becomes readable at completion; owned by the transfer. */
KVFS_API kvfs_status kvfs_transfer_event_fd(kvfs_transfer* transfer, int* fd);
/* Waits if it is not complete, then frees. NULL is allowed. */
KVFS_API void kvfs_transfer_free(kvfs_transfer* transfer);

/* ---- loading ---- */

typedef struct kvfs_lease kvfs_lease;

/* Holds the prefix named by `key`: its blocks stay until kvfs_release. KVFS_NOT_FOUND: evicted
 * since the match. `missed_blocks`: blocks of the prompt that were not cached, for the hit rates (0
 * if unknown). */
KVFS_API kvfs_status kvfs_acquire(kvfs_client* client, const kvfs_key* key, uint32_t missed_blocks,
                                  kvfs_lease** lease);
/* kvfs_match and kvfs_acquire in one, again when eviction was faster. On a miss: KVFS_OK and *lease
 * == NULL. */
KVFS_API kvfs_status kvfs_acquire_prompt(kvfs_client* client, const kvfs_prompt* prompt,
                                         kvfs_match_result* result, kvfs_lease** lease);
KVFS_API uint32_t kvfs_lease_blocks(const kvfs_lease* lease);
KVFS_API kvfs_key kvfs_lease_key(const kvfs_lease* lease);
/* Transfers of the lease must be complete. NULL is allowed. */
KVFS_API void kvfs_release(kvfs_lease* lease);

/* Copies blocks [first_block, first_block + count) of `group` to pages. What is not in DRAM comes
 * from below and is copied as it arrives. `transfer` NULL: waits for the end. Of a group with a
 * window a prefix has the last ceil(window / block_tokens) blocks only: an earlier first_block is
 * KVFS_INVALID. */
KVFS_API kvfs_status kvfs_load(kvfs_lease* lease, uint32_t group, uint32_t first_block,
                               uint32_t count, const kvfs_pages* to,
                               const kvfs_transfer_options* options, kvfs_transfer** transfer);
KVFS_API kvfs_status kvfs_load_blocks(kvfs_lease* lease, uint32_t group, uint32_t first_block,
                                      const kvfs_blocks* to, const kvfs_transfer_options* options,
                                      kvfs_transfer** transfer);
/* Waits until the prefix is durable on NVMe; at once on a mount without NVMe, where nothing is.
 * Negative: as long as the daemon's flush_timeout (5 minutes), then KVFS_TIMEOUT. For those who may
 * write in the namespace (else KVFS_PERMISSION). */
KVFS_API kvfs_status kvfs_lease_flush(kvfs_lease* lease, int32_t timeout_ms);

/* ---- storing ---- */

typedef struct kvfs_reservation kvfs_reservation;

/* Slots for all full blocks of the prompt that are not cached. May be 0 blocks (all is there). */
KVFS_API kvfs_status kvfs_reserve(kvfs_client* client, const kvfs_prompt* prompt,
                                  kvfs_reservation** reservation);
KVFS_API uint64_t kvfs_reservation_id(const kvfs_reservation* reservation);

typedef struct kvfs_range {
  uint32_t first_block; /* first block of the prompt that is to be written */
  uint32_t count;       /* blocks to be written; those stored meanwhile are skipped by kvfs_store */
} kvfs_range;
KVFS_API kvfs_range kvfs_reservation_range(const kvfs_reservation* reservation);

/* Another process (a tensor-parallel rank) takes part in writing: id and range are what the process
 * that reserved tells it. It may not commit what it did not reserve. */
KVFS_API kvfs_status kvfs_join(kvfs_client* client, uint64_t reservation_id, kvfs_range range,
                               kvfs_reservation** reservation);

/* Copies blocks [first_block, first_block + count) (numbers of the prompt, inside the range) into
 * their slots. */
KVFS_API kvfs_status kvfs_store(kvfs_reservation* reservation, uint32_t group, uint32_t first_block,
                                uint32_t count, const kvfs_pages* from,
                                const kvfs_transfer_options* options, kvfs_transfer** transfer);
KVFS_API kvfs_status kvfs_store_blocks(kvfs_reservation* reservation, uint32_t group,
                                       uint32_t first_block, const kvfs_blocks* from,
                                       const kvfs_transfer_options* options,
                                       kvfs_transfer** transfer);

typedef struct kvfs_commit_result {
  uint32_t committed; /* blocks this call published */
  uint32_t present;   /* blocks that were there already, or that another writer won */
  kvfs_key key;       /* of the last block that is there now; zero: none */
} kvfs_commit_result;
/* Publishes blocks up to (not including) prompt block `end_block`; 0: all. All groups must have
 * been stored and their transfers be complete. Readers see all of it or nothing. `result` may be
 * NULL.
 *
 * Encoding "packed": a block whose exponents lie too far apart does not fit into its slot. It is
 * not stored, nor is what follows it, and committed + present are fewer than were asked for: the
 * prefix is cached up to there. (Of 100,000 tokens of real KV no block was like that; the namespace
 * counts them, unpackable_blocks in its stats.json.)
 *
 * Encodings "fp8" and "int8": infinities become the largest number of their layer's K or V, and
 * count as saturated_planes in stats.json; largest_error there is how far a number was rounded. */
KVFS_API kvfs_status kvfs_commit(kvfs_reservation* reservation, uint32_t end_block,
                                 kvfs_commit_result* result);
/* Transfers of the reservation must be complete. What was not committed is not stored. NULL is
 * allowed. */
KVFS_API void kvfs_reservation_free(kvfs_reservation* reservation);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif
