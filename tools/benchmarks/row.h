// One line of output: a value, the hardware's own limit measured beside it, and whether it is
// enough.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace kvfs::bench {

struct Row {
  std::string bench;
  double value = 0;
  std::string unit;
  double limit = 0;
  double ratio = 0;   // how near to the limit: 1 is the limit itself
  double target = 0;  // of the ratio, or, for a time or a size, of the value; 0: none, met by all
  bool met = false;
  std::string data;  // what was moved, where that is not random numbers
};

// One JSON object on one line: {"bench", "value", "unit", "limit", "ratio", "target", "met"}, and
// "data" where there is such.
std::string to_line(const Row& row);

// What one round measured, the two one after the other, so that both saw the same machine.
struct Round {
  double value;
  double limit;
};

// More is better (bytes per second): the round whose value / limit is the median of all rounds.
Row speed_row(std::string bench, std::string unit, std::vector<Round> rounds, double least_ratio);
// Less is better, against a fixed most.
Row cost_row(std::string bench, std::string unit, double value, double limit, double most);

double median(std::vector<double> values);
double quantile(std::vector<double> values, double q);

}  // namespace kvfs::bench
