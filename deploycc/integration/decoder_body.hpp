struct Detection {
  int label;    // class, background included in the numbering
  float score;
  float xmin, ymin, xmax, ymax;  // 0..1 of the picture; may reach outside it
};

namespace detail {

inline bool better(const Detection& one, const Detection& other) {
  return one.score != other.score ? one.score > other.score : one.label < other.label;
}

// Best first; equal scores by class. Detections with a NaN as score have no order and are dropped.
inline void sort_and_limit(std::vector<Detection>& found, long most) {
  const auto unordered = [](const Detection& each) { return std::isnan(each.score); };
  found.erase(std::remove_if(found.begin(), found.end(), unordered), found.end());
  std::stable_sort(found.begin(), found.end(), better);
  if (most >= 0 && found.size() > static_cast<std::size_t>(most)) found.resize(static_cast<std::size_t>(most));
}

// Class of a row; -1 for what no int holds.
template <typename Number>
inline int class_of(Number value) {
  const double number = static_cast<double>(value);
  return number > -1.0 && number < 2147483647.0 ? static_cast<int>(number) : -1;
}

// Share of the common area in the united area is more than the limit. Reversed sides have no area.
inline bool overlaps(const Detection& one, const Detection& other, float limit) {
  const float right_one = std::max(one.xmin, one.xmax), low_one = std::max(one.ymin, one.ymax);
  const float right_other = std::max(other.xmin, other.xmax), low_other = std::max(other.ymin, other.ymax);
  const float width = std::min(right_one, right_other) - std::max(one.xmin, other.xmin);
  const float height = std::min(low_one, low_other) - std::max(one.ymin, other.ymin);
  if (!(width > 0.0f) || !(height > 0.0f)) return false;
  const float common = width * height;
  const float area_one = (right_one - one.xmin) * (low_one - one.ymin);
  const float area_other = (right_other - other.xmin) * (low_other - other.ymin);
  const float joint = area_one + area_other - common;
  return area_one > 0.0f && area_other > 0.0f && joint > 0.0f && common / joint > limit;
}

inline float clipped(float value) { return value < 0.0f ? 0.0f : value > 1.0f ? 1.0f : value; }

enum Coding { center_size, corner, corner_size };

// How boxes follow from raw heads, and how they are suppressed: `heads` and `nms` of contract.json.
struct Rules {
  std::size_t priors, classes;
  int background;  // -1: none
  Coding coding;
  bool variance_encoded, y_first, clip;
  float score_threshold, iou_threshold;
  long top_k, keep_top_k;  // negative: no limit
};

inline void decode_box(const Rules& rules, const float* offset, const float* prior, const float* variance,
                       Detection& box) {
  float t[4];
  for (int i = 0; i < 4; ++i) {
    t[i] = offset[rules.y_first ? i ^ 1 : i];
    if (!rules.variance_encoded) t[i] *= variance[i];
  }
  float corners[4];
  for (int axis = 0; axis < 2; ++axis) {
    const float low = prior[axis], high = prior[axis + 2], size = high - low;
    if (rules.coding == center_size) {
      const float centre = (low + high) / 2.0f + t[axis] * size;
      const float half = std::exp(t[axis + 2]) * size / 2.0f;
      corners[axis] = centre - half;
      corners[axis + 2] = centre + half;
    } else if (rules.coding == corner) {
      corners[axis] = low + t[axis];
      corners[axis + 2] = high + t[axis + 2];
    } else {
      corners[axis] = low + t[axis] * size;
      corners[axis + 2] = high + t[axis + 2] * size;
    }
  }
  if (rules.clip)
    for (float& corner_of : corners) corner_of = clipped(corner_of);
  box.xmin = corners[0];
  box.ymin = corners[1];
  box.xmax = corners[2];
  box.ymax = corners[3];
}

// Caffe's DetectionOutput (Liu et al., SSD, 2016): per class the best top_k above the threshold, greedy suppression,
// then the best keep_top_k of all classes.
inline std::vector<Detection> from_heads(const Rules& rules, const float* locations, const float* scores,
                                         const float (*priors)[4], const float (*variances)[4],
                                         std::size_t variance_rows) {
  std::vector<Detection> found;
  std::vector<std::size_t> rows;
  for (std::size_t label = 0; label < rules.classes; ++label) {
    if (static_cast<long>(label) == static_cast<long>(rules.background)) continue;
    rows.clear();
    for (std::size_t row = 0; row < rules.priors; ++row)
      if (scores[row * rules.classes + label] > rules.score_threshold) rows.push_back(row);
    std::stable_sort(rows.begin(), rows.end(), [&](std::size_t one, std::size_t other) {
      return scores[one * rules.classes + label] > scores[other * rules.classes + label];
    });
    if (rules.top_k >= 0 && rows.size() > static_cast<std::size_t>(rules.top_k))
      rows.resize(static_cast<std::size_t>(rules.top_k));
    const std::size_t first = found.size();
    for (std::size_t row : rows) {
      Detection box;
      box.label = static_cast<int>(label);
      box.score = scores[row * rules.classes + label];
      decode_box(rules, locations + 4 * row, priors[row], variances[variance_rows == 1 ? 0 : row], box);
      bool stays = true;
      for (std::size_t kept = first; stays && kept < found.size(); ++kept)
        stays = !overlaps(found[kept], box, rules.iou_threshold);
      if (stays) found.push_back(box);
    }
  }
  sort_and_limit(found, rules.keep_top_k);
  return found;
}

template <typename Class>
inline std::vector<Detection> from_columns(const float* boxes, const float* scores, const Class* classes,
                                           std::size_t count) {
  std::vector<Detection> found;
  for (std::size_t row = 0; row < count; ++row) {
    const float* box = boxes + 4 * row;
    found.push_back(Detection{class_of(classes[row]), scores[row], box[0], box[1], box[2], box[3]});
  }
  sort_and_limit(found, -1);
  return found;
}

inline std::vector<Detection> from_rows(const float* rows, std::size_t count) {
  std::vector<Detection> found;
  for (std::size_t index = 0; index < count; ++index) {
    const float* row = rows + 7 * index;
    if (row[1] >= 0.0f) found.push_back(Detection{class_of(row[1]), row[2], row[3], row[4], row[5], row[6]});
  }
  sort_and_limit(found, -1);
  return found;
}

// The two source pixels around the centre of a target pixel, and the weight of the second.
struct Tap {
  std::size_t first, second;
  float weight;
};

inline Tap tap(std::size_t source, std::size_t target, std::size_t index) {
  const double last = static_cast<double>(source - 1);
  double centre = (static_cast<double>(index) + 0.5) * (static_cast<double>(source) / static_cast<double>(target)) - 0.5;
  centre = centre < 0.0 ? 0.0 : centre > last ? last : centre;
  const std::size_t low = static_cast<std::size_t>(centre);
  return Tap{low, low + 1 < source ? low + 1 : source - 1, static_cast<float>(centre - static_cast<double>(low))};
}

}  // namespace detail
