// The client's parts that need no daemon.
#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "lib/client/descriptor.h"
#include "lib/client/loads_under_way.h"
#include "lib/client/prompt.h"
#include "lib/client/published.h"
#include "lib/client/transfer.h"
#include "lib/client/workers.h"

namespace kvfs::client {
namespace {

// A value that knows whether it is alive.
struct Counted {
  explicit Counted(std::atomic<int>& alive_count) : alive(alive_count) { ++alive; }
  ~Counted() {
    mark = 0;
    --alive;
  }
  std::atomic<int>& alive;
  std::atomic<int> mark{42};
};

TEST(Published, ReadersNeverSeeAFreedValueAndOldOnesGo) {
  std::atomic<int> alive{0};
  {
    Published<Counted> published;
    published.publish(std::make_unique<Counted>(alive));
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    std::vector<std::thread> readers;
    for (int i = 0; i < 3; ++i) {
      readers.emplace_back([&] {
        while (!stop) {
          const auto value = published.read();
          if (value->mark != 42) ++wrong;
        }
      });
    }
    for (int i = 0; i < 2000; ++i) published.publish(std::make_unique<Counted>(alive));
    stop = true;
    for (std::thread& reader : readers) reader.join();
    EXPECT_EQ(wrong, 0);
    published.reclaim();
    EXPECT_EQ(alive, 1);
  }
  EXPECT_EQ(alive, 0);
}

TEST(Published, AValueStaysWhileItIsRead) {
  std::atomic<int> alive{0};
  Published<Counted> published;
  published.publish(std::make_unique<Counted>(alive));
  {
    const auto value = published.read();
    published.publish(std::make_unique<Counted>(alive));
    published.reclaim();
    EXPECT_EQ(alive, 2);
    EXPECT_EQ(value->mark, 42);
  }
  published.reclaim();
  EXPECT_EQ(alive, 1);
}

TEST(Workers, RunWhatIsPostedAlsoAtTheEnd) {
  std::atomic<int> done{0};
  {
    Workers workers([] {});
    for (int i = 0; i < 50; ++i) workers.post([&done] { ++done; });
  }
  EXPECT_EQ(done, 50);
}

TEST(Workers, ABlockedJobDoesNotHoldUpOthers) {
  std::atomic<bool> go{false};
  std::atomic<int> done{0};
  Workers workers([] {});
  workers.post([&] { go.wait(false); });
  workers.post([&] { ++done; });
  for (int i = 0; i < 500 && done == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(done, 1);
  go = true;
  go.notify_all();
}

// Jobs may wait for what a tick gives back.
TEST(Workers, TickWhileJobsComeAllTheTimeAndWhileAllThreadsAreTaken) {
  std::atomic<int> ticks{0};
  Workers workers([&ticks] { ++ticks; });
  for (int i = 0; i < 500 && ticks == 0; ++i) {
    workers.post([] {});
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GE(ticks, 1);
  constexpr int kJobs = 40;  // more than it has threads
  std::atomic<int> ended{0};
  for (int i = 0; i < kJobs; ++i) {
    workers.post([&, seen = ticks.load()] {
      for (int wait = 0; wait < 500 && ticks == seen; ++wait)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      EXPECT_GT(ticks, seen);
      ++ended;
    });
  }
  while (ended != kJobs) std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

TEST(Transfers, AreCompleteWhenEveryPartIs) {
  Transfer transfer;
  const std::uint32_t step = transfer.begin_part();
  EXPECT_EQ(transfer.begin_part(), step);
  const int event = *transfer.event_fd();
  pollfd waiting{.fd = event, .events = POLLIN, .revents = 0};
  transfer.finish_part({}, step);
  transfer.finish_part({}, step);
  transfer.drain();  // only the submitter's part is open
  EXPECT_FALSE(transfer.done());
  EXPECT_EQ(::poll(&waiting, 1, 0), 0);
  const Status early = transfer.wait(Deadline::after_ms(0));
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code, Code::kTimeout);
  transfer.finish({});
  EXPECT_TRUE(transfer.done());
  EXPECT_EQ(::poll(&waiting, 1, 0), 1);
  EXPECT_TRUE(transfer.wait(Deadline::after_ms(-1)));
}

TEST(Transfers, SayHowManyLayersHaveArrived) {
  const Deadline soon = Deadline::after_ms(1);
  Transfer transfer;
  const std::uint32_t first = transfer.begin_part();
  transfer.end_step(2);
  const std::uint32_t second = transfer.begin_part();
  transfer.end_step(4);
  EXPECT_EQ(transfer.wait_layers(1, soon).error().code, Code::kTimeout);
  std::thread waiter([&] { EXPECT_TRUE(transfer.wait_layers(2, Deadline::after_ms(-1))); });
  transfer.finish_part({}, first);
  waiter.join();
  EXPECT_EQ(transfer.layers(), 2U);
  EXPECT_EQ(transfer.wait_layers(3, soon).error().code, Code::kTimeout);
  transfer.finish_part(fail(Code::kIo, "a disk"), second);  // it brings no layer
  EXPECT_EQ(transfer.layers(), 2U);
  EXPECT_TRUE(transfer.wait_layers(2, soon));
  EXPECT_EQ(transfer.wait_layers(3, soon).error().code, Code::kIo);  // though it is not complete
  transfer.finish({});
  EXPECT_EQ(transfer.wait_layers(3, soon).error().code, Code::kIo);

  Transfer whole;
  whole.finish({});
  EXPECT_TRUE(whole.wait_layers(1, soon));
}

// As those of a load do that comes over the link in part and is on the GPU in part.
TEST(Transfers, LayersHaveArrivedWhenAllPartsBeforeAreThere) {
  Transfer transfer;
  const std::uint32_t slow = transfer.begin_part();
  const std::uint32_t quick = transfer.begin_part();
  transfer.finish_part({}, quick);  // and more of its step will begin
  EXPECT_EQ(transfer.layers(), 0U);
  transfer.end_step(2);
  const std::uint32_t next = transfer.begin_part();
  transfer.end_step(4);
  transfer.finish_part({}, next);
  EXPECT_EQ(transfer.layers(), 0U);
  transfer.finish_part({}, slow);
  EXPECT_EQ(transfer.layers(), 4U);
  transfer.begin_part();
  transfer.finish_part(fail(Code::kIo, "a disk"), transfer.begin_part());
  transfer.end_step(6);
  transfer.finish({});
  EXPECT_EQ(transfer.layers(), 4U);
}

// Who waits may close the client at once: nothing of it is let go of later.
TEST(Transfers, HoldWhatTheyUseUntilJustBeforeTheEnd) {
  Transfer transfer;
  bool let_go = false;
  bool complete_then = true;
  const std::uint32_t step = transfer.begin_part();
  transfer.hold(std::shared_ptr<void>(&transfer, [&](void*) {
    let_go = true;
    complete_then = transfer.done();
  }));
  transfer.finish({});
  EXPECT_FALSE(let_go);
  transfer.finish_part({}, step);
  EXPECT_TRUE(let_go);
  EXPECT_FALSE(complete_then);
  EXPECT_TRUE(transfer.done());
}

TEST(Transfers, KeepTheFirstError) {
  Transfer transfer;
  const std::uint32_t step = transfer.begin_part();
  transfer.begin_part();
  transfer.finish_part(fail(Code::kIo, "first"), step);
  EXPECT_TRUE(transfer.failed());
  transfer.finish_part(fail(Code::kCorrupt, "second"), step);
  transfer.finish({});
  EXPECT_EQ(transfer.wait(Deadline::after_ms(-1)).error().message, "first");
  pollfd late{.fd = *transfer.event_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&late, 1, 0), 1);  // asked for after completion
}

// Of two loads with one lease: what one only copies yet stays where it is.
TEST(LoadsUnderWay, LetGoOfNothingThatIsBeingCopied) {
  std::vector<std::uint32_t> told;
  const auto tell = [&told](std::uint32_t before) -> Status {
    told.push_back(before);
    return {};
  };
  LoadsUnderWay loads;
  EXPECT_EQ(loads.let_go(tell).value(), 0U);
  LoadsUnderWay::Progress streaming(loads, 0);
  auto copying = std::make_unique<LoadsUnderWay::Progress>(loads, 2);
  EXPECT_EQ(loads.let_go(tell).value(), 0U);
  EXPECT_FALSE(loads.have_let_go());
  streaming.is_at(8);
  EXPECT_EQ(loads.let_go(tell).value(), 2U);  // it still asks for blocks
  EXPECT_TRUE(loads.have_let_go());
  copying->only_copies();
  std::atomic<bool> copied{false};
  std::thread end([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    copied = true;
    copying.reset();
  });
  EXPECT_EQ(loads.let_go(tell).value(), 8U);
  EXPECT_TRUE(copied);
  end.join();
  EXPECT_EQ(told, (std::vector<std::uint32_t>{2, 8}));
}

// A walk over the last blocks begins while those before are on their way still.
TEST(LoadsUnderWay, WhatIsWantedFromABlockOnSaysNothingOfThoseBefore) {
  LoadsUnderWay loads;
  const auto tell = [](std::uint32_t) -> Status { return {}; };
  LoadsUnderWay::Progress load(loads, 2);
  load.wants_from(6);
  EXPECT_EQ(loads.let_go(tell).value(), 2U);
  load.is_at(9);
  EXPECT_EQ(loads.let_go(tell).value(), 9U);
  load.wants_from(6);  // once more, other layers of them
  EXPECT_EQ(loads.let_go(tell).value(), 6U);
}

// The daemon may give their places away as soon as it has been told.
TEST(LoadsUnderWay, ALoadBeginsBeforeTheDaemonIsToldOrAfterIt) {
  LoadsUnderWay loads;
  LoadsUnderWay::Progress streaming(loads, 0);
  streaming.is_at(8);
  std::atomic<bool> begun{false};
  std::thread other;
  const auto told = loads.let_go([&](std::uint32_t) -> Status {
    other = std::thread([&] {
      const LoadsUnderWay::Progress load(loads, 0);
      begun = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(begun);
    return fail(Code::kUnavailable, "the daemon is gone");
  });
  other.join();
  EXPECT_TRUE(begun);
  ASSERT_FALSE(told);
  EXPECT_EQ(told.error().code, Code::kUnavailable);
}

TEST(Deadlines, RemainingTimeRoundsUp) {
  EXPECT_TRUE(Deadline::after_ms(-1).never());
  EXPECT_FALSE(Deadline::after_ms(-1).passed());
  EXPECT_TRUE(Deadline::after_ms(0).passed());
  EXPECT_EQ(Deadline::after_ms(0).remaining_ms(), 0U);
  const std::uint32_t left = Deadline::after_ms(10000).remaining_ms();
  EXPECT_GT(left, 9000U);
  EXPECT_LE(left, 10000U);
}

TEST(Prompts, HashWhatTheFormatSays) {
  std::vector<Token> tokens(50);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<Token>(i * 3);
  const kvfs_extra extra{.block = 1, .bytes_size = 3, .bytes = "abc"};
  const kvfs_prompt prompt{
      .tokens = tokens.data(), .token_count = 50, .extras = &extra, .extra_count = 1};
  const Key seed{.lo = 1, .hi = 2};
  const Result<Prompt> read = read_prompt(prompt, seed, 16);
  ASSERT_TRUE(read);
  ASSERT_EQ(read->blocks, 3U);
  const std::span<const Token> all(tokens);
  const Key first = chain_key(seed, all.subspan(0, 16));
  const Key second =
      chain_key(first, all.subspan(16, 16), digest_extra(std::as_bytes(std::span("abc", 3))));
  EXPECT_EQ(read->keys[0], first);
  EXPECT_EQ(read->keys[1], second);
  EXPECT_EQ(read->keys[2], chain_key(second, all.subspan(32, 16)));
}

TEST(Library, ExportsOnlyItsOwnSymbols) {
  const std::string command = "nm -D --defined-only " KVFS_BIN_DIR "/../lib/libkvfs.so";
  const std::unique_ptr<FILE, int (*)(FILE*)> output(::popen(command.c_str(), "r"), ::pclose);
  ASSERT_TRUE(output);
  std::array<char, 512> line{};
  int symbols = 0;
  while (std::fgets(line.data(), line.size(), output.get()) != nullptr) {
    const std::string text(line.data());
    if (text.find("__asan") != std::string::npos || text.find("__odr_asan") != std::string::npos)
      continue;
    EXPECT_NE(text.find(" T kvfs_"), std::string::npos) << text;
    ++symbols;
  }
  EXPECT_GE(symbols, 30);
}

}  // namespace
}  // namespace kvfs::client
