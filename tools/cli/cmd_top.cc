// kvfs top: what moves, live.
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "tools/cli/command.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/store_view.h"

namespace kvfs::cli {
namespace {

volatile std::sig_atomic_t g_ended = 0;
void note_signal(int /*signal*/) { g_ended = 1; }

// Single keys without echo, on the alternate screen.
// Threads: one. Owns: the terminal's mode; gives it back. Blocks: wait_for_quit() as told. Errors:
// none.
class FullScreen {
 public:
  FullScreen() {
    keys_ = ::tcgetattr(STDIN_FILENO, &saved_) == 0;
    if (keys_) {
      termios raw = saved_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    struct sigaction action {};
    action.sa_handler = note_signal;  // no SA_RESTART: poll returns at once
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
    print("\x1b[?1049h\x1b[?25l");
  }
  ~FullScreen() {
    print("\x1b[?25h\x1b[?1049l");
    std::fflush(stdout);
    if (keys_) ::tcsetattr(STDIN_FILENO, TCSANOW, &saved_);
  }
  FullScreen(const FullScreen&) = delete;
  FullScreen& operator=(const FullScreen&) = delete;

  // True when the user wants to leave.
  [[nodiscard]] bool wait_for_quit(int milliseconds) const {
    pollfd input{.fd = keys_ ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0};
    if (::poll(&input, 1, milliseconds) > 0 && (input.revents & POLLIN) != 0) {
      char key = 0;
      if (::read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q' || key == 3) return true;
    }
    return g_ended != 0;
  }

 private:
  termios saved_{};
  bool keys_ = false;
};

Result<ExitCode> run_once(const std::string& mount, double interval, const Context& context) {
  Result<Snapshot> before = take_snapshot(mount);
  if (!before) return pass(std::move(before));
  std::this_thread::sleep_for(std::chrono::duration<double>(interval));
  Result<Snapshot> now = take_snapshot(mount);
  if (!now) return pass(std::move(now));
  if (context.json) {
    const auto object = [](const Snapshot& snapshot) {
      nlohmann::json out = snapshot.store;
      out["namespaces"] = snapshot.namespaces;
      return out;
    };
    print_json({{"mount", mount},
                {"seconds", std::chrono::duration<double>(now->taken - before->taken).count()},
                {"before", object(*before)},
                {"now", object(*now)}});
  } else {
    print(render_top(*before, *now, context.terminal));
  }
  return ExitCode::kOk;
}

Result<ExitCode> run_live(const std::string& mount, double interval) {
  Result<Snapshot> before = take_snapshot(mount);
  if (!before) return pass(std::move(before));
  const FullScreen screen;
  for (;;) {
    const Terminal terminal = Terminal::of_stdout();  // its size may change
    Result<Snapshot> now = take_snapshot(mount);
    if (!now) return pass(std::move(now));
    print("\x1b[H\x1b[J" + render_top(*before, *now, terminal) +
          terminal.tint(Tint::kDim, "\nq quits"));
    std::fflush(stdout);
    before = std::move(now);
    if (screen.wait_for_quit(static_cast<int>(interval * 1000))) return ExitCode::kOk;
  }
}

Result<ExitCode> run(double interval, bool once, const Context& context) {
  Result<std::string> mount = find_mount(context.mount);
  if (!mount) return pass(std::move(mount));
  const bool live = !once && !context.json && context.terminal.is_tty();
  return live ? run_live(*mount, interval) : run_once(*mount, interval, context);
}

}  // namespace

void add_top(CLI::App& app, Context& context) {
  auto interval = std::make_shared<double>(1.0);
  auto once = std::make_shared<bool>(false);
  CLI::App* command = add_command(
      app, context, "top", "What moves, live (q quits)", UsesMount::kYes,
      {"kvfs top", "kvfs top --once --interval 5   # one screen with the rates of 5 seconds"},
      [interval, once, &context] { return run(*interval, *once, context); });
  command->add_option("--interval", *interval, "Seconds between looks (default 1)")
      ->type_name("S")
      ->check(CLI::Range(0.05, 3600.0));
  command->add_flag("--once", *once, "One screen, then end (as where output is no terminal)");
}

}  // namespace kvfs::cli
