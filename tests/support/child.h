// Processes beside a test.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace kvfs::test {

using Words = std::vector<std::string>;

// What a child does that is a process of its own: this program runs again and does nothing else.
// Steps are named at namespace scope, so that the child finds them.
class ChildStep {
 public:
  using Body = std::function<int(const Words&)>;  // returns the exit code
  ChildStep(const char* name, Body body);
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  std::string name_;
};

// What main() begins with: in a child it runs the step and does not return.
void run_child_step(int argc, char** argv);

// Exit codes are the body's; 99 for an exception, which is printed.
class Child {
 public:
  Child(const ChildStep& step, const Words& words);
  // A copy of this process, for what is about forks. ThreadSanitizer lets it start no thread.
  explicit Child(const std::function<int()>& body);
  ~Child();  // kills what still runs
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  int wait();
  void kill();
  // Waits until the child has called stop_here(); false: it ended instead.
  bool stopped();
  int go_on();  // and waits for its end

 private:
  pid_t pid_;
};

inline int in_child(const std::function<int()>& body) { return Child(body).wait(); }

// In a child: stops until go_on(). Returns 0.
int stop_here();

}  // namespace kvfs::test
