// Families of metrics, built up sample by sample in the order they are first named.
#pragma once

#include <prometheus/metric_family.h>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "fs/histogram.h"

namespace kvfs::mount {

using Labels = std::initializer_list<std::pair<const char*, std::string>>;

class MetricFamilies {
 public:
  void counter(const char* name, const char* help, Labels labels, double value);
  void gauge(const char* name, const char* help, Labels labels, double value);
  void histogram(const char* name, const char* help, Labels labels,
                 const HistogramSnapshot& snapshot);
  [[nodiscard]] const std::vector<prometheus::MetricFamily>& families() const { return families_; }

 private:
  prometheus::ClientMetric& add(const char* name, const char* help, prometheus::MetricType type,
                                Labels labels);
  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace kvfs::mount
