#include "lib/client/client.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>

#include "lib/client/ioctl_calls.h"

namespace kvfs::client {
namespace {

using namespace std::chrono_literals;

constexpr auto kRetry = 100ms;  // between attempts to find a daemon again
constexpr auto kOpenRetry = 20ms;
// Each round of acquiring or reserving begins with a match, so that another is needed only when
// eviction was faster than the call: so often in a row it means that DRAM is thrashing.
constexpr int kEvictionRounds = 16;

std::uint32_t threads_for(std::uint32_t wanted) {
  if (wanted > 0) return std::min(wanted, 64U);
  return std::clamp(std::thread::hardware_concurrency(), 1U, 4U);
}

}  // namespace

Client::Client(const ClientOptions& options)
    : options_(options.session), devices_(threads_for(options.copy_threads)) {}

Client::~Client() {
  workers_.reset();
  const auto attachment = attachment_.read();
  if (attachment && attachment->session && !attachment->session->lost()) {
    report(*attachment->session);
  }
}

Result<std::unique_ptr<Client>> Client::open(const ClientOptions& options,
                                             const Deadline& deadline) {
  watch_forks();
  auto client = std::make_unique<Client>(options);
  if (Status status = client->attach_until(deadline); !status) return pass(std::move(status));
  if (options.expected != nullptr) {
    const std::string difference = describe_difference(*options.expected, client->geometry_);
    if (!difference.empty()) {
      return fail(Code::kMismatch, "namespace '" + options.session.name + "': " + difference +
                                       ": open it with its own geometry, or create another one");
    }
  }
  client->workers_ = std::make_unique<Workers>([self = client.get()] { self->tick(); });
  return client;
}

// Where a daemon has died the next one may be about to start, and takes the dead mount away first.
Status Client::attach_until(const Deadline& deadline) {
  bool died = false;
  for (;;) {
    Status status;
    {
      const std::lock_guard lock(mutex_);
      status = attach();
    }
    if (status) return status;
    died |= status.error().code == Code::kUnavailable;
    const bool again = died && (status.error().code == Code::kUnavailable ||
                                status.error().code == Code::kNotFound);
    if (!again || deadline.passed()) return status;
    std::this_thread::sleep_for(kOpenRetry);
  }
}

Status Client::attach() {
  Result<std::shared_ptr<Session>> opened = Session::open(options_, devices_);
  if (!opened) return pass(std::move(opened));
  Session& session = **opened;
  const bool first = geometry_.groups.empty();
  if (!first) {
    const std::string difference = describe_difference(geometry_, session.geometry());
    if (!difference.empty()) {
      return fail(Code::kMismatch, "namespace '" + options_.name +
                                       "' was replaced by another one: " + difference +
                                       ": close this client and open it again");
    }
  }
  auto attachment = std::make_unique<Attachment>();
  if (session.mapped()) {
    Result<IndexMap> index = IndexMap::open(*opened);
    if (!index) return pass(std::move(index));
    attachment->index = std::make_shared<IndexMap>(std::move(*index));
  }
  if (first) {
    geometry_ = session.geometry();
    seed_ = geometry_.seed();
  }
  attachment->session = std::move(*opened);
  attachment_.publish(std::move(attachment));
  return {};
}

Result<std::shared_ptr<Session>> Client::session() {
  {
    const auto attachment = attachment_.read();
    if (!attachment->session->lost()) return attachment->session;
  }
  return reattach();
}

Result<std::shared_ptr<Session>> Client::reattach() {
  const std::lock_guard lock(mutex_);
  {
    const auto attachment = attachment_.read();
    if (!attachment->session->lost()) return attachment->session;  // another thread was first
  }
  if (Clock::now() < next_try_) {
    return fail(Code::kUnavailable, "the daemon of '" + options_.mount +
                                        "' is gone: treat it as a miss; the client looks for it "
                                        "again by itself");
  }
  next_try_ = Clock::now() + kRetry;
  if (Status status = attach(); !status) {
    if (status.error().code == Code::kMismatch) return pass(std::move(status));
    return fail(Code::kUnavailable, "the daemon of '" + options_.mount + "' is gone (" +
                                        status.error().message + "): treat it as a miss");
  }
  counters_.reattached.fetch_add(1, std::memory_order_relaxed);
  return attachment_.read()->session;
}

// The old index stays right about what it has, only new blocks are missing: whoever finds the lock
// taken goes on with it.
void Client::replace_index() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || Clock::now() < next_index_try_) return;
  std::shared_ptr<Session> session;
  {
    const auto current = attachment_.read();
    if (!current->index || !current->index->view().superseded()) return;
    session = current->session;
  }
  Result<IndexMap> index = IndexMap::open(session);
  if (!index || index->view().superseded()) {
    next_index_try_ = Clock::now() + kOpenRetry;
    return;
  }
  auto attachment = std::make_unique<Attachment>();
  attachment->index = std::make_shared<IndexMap>(std::move(*index));
  attachment->session = std::move(session);
  attachment_.publish(std::move(attachment));
}

// Finds a dead daemon and a new index without a call, and gives slabs back that others need.
void Client::tick() {
  Result<std::shared_ptr<Session>> attached = session();
  if (!attached) return;  // the next tick tries again
  Session& session = **attached;
  ignore_error(session.checked(ioctl_hello(session.directory())), "lost() has taken note of it");
  if (session.lost()) return;
  report(session);
  if (session.lost() || !session.mapped()) return;
  if (const std::unique_lock lock(ahead_mutex_, std::try_to_lock);
      lock.owns_lock() && maps_ahead_ && !session.slabs().ahead()) {
    ignore_error(map_ahead(*attached), "they are mapped as they are used");
  }
  replace_index();
  const std::uint32_t retired = [this] {
    const auto attachment = attachment_.read();
    return attachment->index ? attachment->index->view().slabs_retired() : 0;
  }();
  ignore_error(session.checked(session.slabs().drop_retired(retired)), "the next tick tries again");
  const std::lock_guard lock(mutex_);
  attachment_.reclaim();
}

void Client::report(Session& session) {
  const ReportMessage message{
      .loaded_bytes = unreported_bytes_.exchange(0, std::memory_order_relaxed),
      .missed_blocks = unreported_misses_.exchange(0, std::memory_order_relaxed),
      .gpu_bytes = unreported_gpu_bytes_.exchange(0, std::memory_order_relaxed)};
  if (message.loaded_bytes == 0 && message.missed_blocks == 0 && message.gpu_bytes == 0) return;
  ignore_error(session.checked(ioctl_report(session.directory(), message)),
               "figures of a daemon that is gone are of no use");
}

void Client::report_later(std::uint64_t loaded_bytes, std::uint64_t gpu_bytes,
                          std::uint32_t missed_blocks) {
  if (loaded_bytes != 0) unreported_bytes_.fetch_add(loaded_bytes, std::memory_order_relaxed);
  if (gpu_bytes != 0) unreported_gpu_bytes_.fetch_add(gpu_bytes, std::memory_order_relaxed);
  if (missed_blocks != 0) unreported_misses_.fetch_add(missed_blocks, std::memory_order_relaxed);
}

bool Client::mapped() const { return attachment_.read()->session->mapped(); }

Result<Prompt> Client::read(const kvfs_prompt& prompt) const {
  const auto attachment = attachment_.read();
  // An index that is about to be replaced must not say what needs no hashing.
  const bool current =
      attachment->index && !attachment->session->lost() && !attachment->index->view().superseded();
  return read_prompt(prompt, seed_, geometry_.block_tokens,
                     current ? &attachment->index->view() : nullptr);
}

Result<Match> Client::match(Prompt& prompt) {
  counters_.matches.fetch_add(1, std::memory_order_relaxed);
  for (int round = 0;; ++round) {
    {
      const auto attachment = attachment_.read();
      if (!attachment->session->lost()) {
        if (!attachment->index) break;
        const IndexView& view = attachment->index->view();
        if (round > 0 || !view.superseded()) {
          Match match = view.match(prompt.keys, prompt.tokens, prompt.extras);
          if (match.blocks == prompt.keys.size() && match.blocks < prompt.blocks) {
            // What was missing when the prompt was read may have come since, and more behind it.
            hash_rest(prompt, seed_, geometry_.block_tokens);
            match = view.match(prompt.keys, prompt.tokens, prompt.extras);
          }
          if (Status status =
                  check_tokens(prompt.tokens, std::size_t{match.blocks} * geometry_.block_tokens);
              !status) {
            return pass(std::move(status));
          }
          counters_.matched_blocks.fetch_add(match.blocks, std::memory_order_relaxed);
          return match;
        }
      }
    }
    Result<std::shared_ptr<Session>> attached = session();
    if (!attached) return pass(std::move(attached));
    replace_index();
  }
  if (Status status = check_tokens(prompt.tokens, 0); !status) return pass(std::move(status));
  const Result<std::uint32_t> blocks = match_by_daemon(prompt);
  if (!blocks) return tl::unexpected<Error>(blocks.error());
  counters_.matched_blocks.fetch_add(*blocks, std::memory_order_relaxed);
  return *blocks == 0 ? Match{} : Match{.blocks = *blocks, .key = prompt.keys[*blocks - 1]};
}

Result<std::uint32_t> Client::match_by_daemon(const Prompt& prompt) {
  if (prompt.keys.empty()) return 0U;
  Result<std::shared_ptr<Session>> attached = session();
  if (!attached) return pass(std::move(attached));
  return (*attached)->checked(ioctl_match((*attached)->directory(), prompt.keys));
}

Status Client::prefetch(const Key& key) {
  Result<std::shared_ptr<Session>> attached = session();
  if (!attached) return pass(std::move(attached));
  return (*attached)->checked(ioctl_prefetch((*attached)->directory(), key));
}

Result<std::uint64_t> Client::map_slabs(const void* engine_pointer, std::uint64_t provide) {
  // Without the GPU what there is is mapped in any case.
  Result<gpu::Device*> device = nullptr;
  if (engine_pointer != nullptr) device = devices_.of(engine_pointer);
  const std::lock_guard lock(ahead_mutex_);
  if (provide != 0) provide_ = provide;
  maps_ahead_ = true;
  Result<std::shared_ptr<Session>> attached = session();
  if (!attached) return pass(std::move(attached));
  Result<std::uint64_t> mapped = 0U;
  if ((*attached)->mapped()) mapped = map_ahead(*attached);
  if (mapped && !device) return pass(std::move(device));
  return mapped;
}

Result<std::uint64_t> Client::map_ahead(const std::shared_ptr<Session>& session) {
  Status provided;
  if (provide_ != 0 && !options_.read_only) {
    provided = SlotReservation::provide(session, provide_);
    // Who may not store has no use for it.
    if (!provided && provided.error().code == Code::kPermission) provided = {};
  }
  // What there is is mapped in any case.
  Result<std::uint64_t> mapped = session->checked(session->slabs().map_ahead());
  if (mapped && !provided) return pass(std::move(provided));
  return mapped;
}

// Ids mean something with the daemon that gave them alone.
Tip Client::tip_of(const Session& session, const Key& key) {
  const auto attachment = attachment_.read();
  const bool same = attachment->index && attachment->session.get() == &session;
  return same ? attachment->index->view().tip(key) : Tip{};
}

std::shared_ptr<const IndexMap> Client::index_of(const Session& session) {
  const auto attachment = attachment_.read();
  return attachment->session.get() == &session ? attachment->index : nullptr;
}

Result<std::unique_ptr<PrefixLease>> Client::acquire(const Key& key, std::uint32_t missed_blocks) {
  Result<std::shared_ptr<Session>> attached = session();
  if (!attached) return pass(std::move(attached));
  missed_blocks += unreported_misses_.exchange(0, std::memory_order_relaxed);
  Result<std::unique_ptr<PrefixLease>> lease =
      PrefixLease::open(*attached, key, tip_of(**attached, key), missed_blocks);
  (lease ? counters_.leases : counters_.lost_leases).fetch_add(1, std::memory_order_relaxed);
  return lease;
}

Result<std::unique_ptr<PrefixLease>> Client::acquire_prompt(Prompt& prompt, Match& match) {
  for (int round = 0; round < kEvictionRounds; ++round) {
    Result<Match> found = this->match(prompt);
    if (!found) return pass(std::move(found));
    match = *found;
    if (match.blocks == 0) break;
    Result<std::unique_ptr<PrefixLease>> lease = acquire(match.key, prompt.blocks - match.blocks);
    if (!lease && lease.error().code == Code::kNotFound) continue;
    if (!lease || (*lease)->session().mapped()) return lease;
    const Result<bool> same = (*lease)->holds(prompt);
    if (!same) return tl::unexpected<Error>(same.error());
    if (*same) return lease;
    break;  // a collision of keys: this prompt is not what is cached
  }
  match = {};
  unreported_misses_.fetch_add(prompt.blocks, std::memory_order_relaxed);
  return nullptr;
}

Result<std::unique_ptr<SlotReservation>> Client::reserve(Prompt& prompt) {
  if (options_.read_only) {
    return fail(Code::kPermission, "this client was opened read_only: open it without to store");
  }
  for (int round = 0; round < kEvictionRounds; ++round) {
    Result<Match> found = match(prompt);
    if (!found) return pass(std::move(found));
    Result<std::shared_ptr<Session>> attached = session();
    if (!attached) return pass(std::move(attached));
    const std::uint32_t first = found->blocks;
    if (first == prompt.blocks) {
      return SlotReservation::nothing(std::move(*attached), found->key, first);
    }
    std::uint32_t missed = unreported_misses_.exchange(0, std::memory_order_relaxed);
    if (missed == 0 && first == 0) missed = prompt.blocks;
    std::shared_ptr<const IndexMap> index = index_of(**attached);
    Result<std::unique_ptr<SlotReservation>> reservation = SlotReservation::reserve(
        std::move(*attached), std::move(index), prompt, found->key, first, missed);
    if (reservation || reservation.error().code != Code::kNotFound) return reservation;
  }
  return fail(Code::kBusy,
              "the prefix to go on from was evicted again and again: DRAM is too small "
              "for what is in use; give the daemon more --dram");
}

Result<std::unique_ptr<SlotReservation>> Client::join(std::uint64_t id, kvfs_range range) {
  if (options_.read_only) {
    return fail(Code::kPermission, "this client was opened read_only: open it without to store");
  }
  Result<std::shared_ptr<Session>> attached = session();
  if (!attached) return pass(std::move(attached));
  std::shared_ptr<const IndexMap> index = index_of(**attached);
  return SlotReservation::join(std::move(*attached), std::move(index), id, range);
}

}  // namespace kvfs::client
