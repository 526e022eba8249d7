#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "tools/cli/measure.h"

namespace kvfs::cli {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{64} << 20;  // beyond the caches
constexpr int kRounds = 3;

}  // namespace

double measure_memory(std::uint32_t threads) {
  using Clock = std::chrono::steady_clock;
  struct Piece {
    std::vector<char> from = std::vector<char>(kPieceBytes, 1);
    std::vector<char> to = std::vector<char>(kPieceBytes, 2);
  };
  std::vector<Piece> pieces(threads);
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = Clock::now();
    std::vector<std::jthread> workers;
    workers.reserve(pieces.size());
    for (Piece& piece : pieces) {
      workers.emplace_back(
          [&piece] { std::memcpy(piece.to.data(), piece.from.data(), kPieceBytes); });
    }
    workers.clear();
    const std::chrono::duration<double> elapsed = Clock::now() - start;
    best = std::max(best, static_cast<double>(kPieceBytes) * threads / elapsed.count());
  }
  return best;
}

}  // namespace kvfs::cli
