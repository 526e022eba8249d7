#include "fs/mount/metric_families.h"

#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <cmath>

namespace kvfs::mount {
namespace {

TEST(MetricFamilies, SamplesOfOneNameShareAFamily) {
  MetricFamilies out;
  out.counter("a_total", "A", {{"tier", "dram"}}, 1);
  out.gauge("b", "B", {}, 2);
  out.counter("a_total", "A", {{"tier", "nvme"}}, 3);
  ASSERT_EQ(out.families().size(), 2U);
  EXPECT_EQ(out.families()[0].metric.size(), 2U);
  EXPECT_EQ(prometheus::TextSerializer().Serialize(out.families()),
            "# HELP a_total A\n# TYPE a_total counter\na_total{tier=\"dram\"} "
            "1\na_total{tier=\"nvme\"} 3\n"
            "# HELP b B\n# TYPE b gauge\nb 2\n");
}

TEST(MetricFamilies, HistogramsAreCumulative) {
  Histogram histogram;
  histogram.observe(std::chrono::microseconds(1));
  histogram.observe(std::chrono::microseconds(3));
  histogram.observe(std::chrono::hours(1));
  MetricFamilies out;
  out.histogram("h_seconds", "H", {}, histogram.snapshot());
  const auto& buckets = out.families()[0].metric[0].histogram.bucket;
  ASSERT_EQ(buckets.size(), HistogramSnapshot::kBuckets);
  EXPECT_EQ(buckets[0].cumulative_count, 1U);
  EXPECT_DOUBLE_EQ(buckets[0].upper_bound, 1e-6);
  EXPECT_EQ(buckets[2].cumulative_count, 2U);
  EXPECT_EQ(buckets.back().cumulative_count, 3U);
  EXPECT_TRUE(std::isinf(buckets.back().upper_bound));
}

}  // namespace
}  // namespace kvfs::mount
