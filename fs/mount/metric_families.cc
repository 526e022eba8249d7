#include "fs/mount/metric_families.h"

#include <algorithm>
#include <limits>

namespace kvfs::mount {

prometheus::ClientMetric& MetricFamilies::add(const char* name, const char* help,
                                              prometheus::MetricType type, Labels labels) {
  auto family = std::ranges::find(families_, name, &prometheus::MetricFamily::name);
  if (family == families_.end())
    family = families_.insert(family, prometheus::MetricFamily{name, help, type, {}});
  prometheus::ClientMetric& metric = family->metric.emplace_back();
  for (const auto& [label, value] : labels) metric.label.push_back({label, value});
  return metric;
}

void MetricFamilies::counter(const char* name, const char* help, Labels labels, double value) {
  add(name, help, prometheus::MetricType::Counter, labels).counter.value = value;
}

void MetricFamilies::gauge(const char* name, const char* help, Labels labels, double value) {
  add(name, help, prometheus::MetricType::Gauge, labels).gauge.value = value;
}

void MetricFamilies::histogram(const char* name, const char* help, Labels labels,
                               const HistogramSnapshot& snapshot) {
  auto& histogram = add(name, help, prometheus::MetricType::Histogram, labels).histogram;
  histogram.sample_count = snapshot.count;
  histogram.sample_sum = snapshot.sum_seconds;
  std::uint64_t cumulative = 0;
  for (std::size_t bucket = 0; bucket < snapshot.counts.size(); ++bucket) {
    cumulative += snapshot.counts[bucket];
    const bool last = bucket + 1 == snapshot.counts.size();
    const double bound =
        last ? std::numeric_limits<double>::infinity() : 1e-6 * static_cast<double>(1ULL << bucket);
    histogram.bucket.push_back({cumulative, bound});
  }
}

}  // namespace kvfs::mount
