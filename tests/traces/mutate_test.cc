// The fuzzer's target on truncations and single changed bytes of valid inputs, without libFuzzer: every build runs it.
#include <fstream>
#include <sstream>

#include "kernels/base/rng.h"
#include "tests/traces/parsed.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

namespace {

// On a copy of exactly that size, so that a byte read too many is seen by the sanitizer.
void run(int which, const std::string &text) {
  std::vector<uint8_t> input(1, (uint8_t)which);
  input.insert(input.end(), text.begin(), text.end());
  input.shrink_to_fit();
  ASSERT_EQ(LLVMFuzzerTestOneInput(input.data(), input.size()), 0);
}

void mutate(int which, const std::string &text) {
  static const std::string bytes = std::string("\n\r\t -.,0919eENn[]{}\"\\:_/\x80\xff") + '\0';
  for (size_t n = 0; n <= text.size(); n++) run(which, text.substr(0, n));
  m4n_rng rng = m4n_rng_make(which, text.size(), M4N_RNG_TEST);
  for (int i = 0; i < 2000; i++) {
    std::string changed = text;
    for (uint32_t k = 0, n = 1 + m4n_rng_below(&rng, 3); k < n; k++) {
      size_t at = m4n_rng_below(&rng, (uint32_t)changed.size());
      char byte = bytes[m4n_rng_below(&rng, (uint32_t)bytes.size())];
      switch (m4n_rng_below(&rng, 3)) {
      case 0:
        changed[at] = byte;
        break;
      case 1:
        changed.insert(at, 1 + m4n_rng_below(&rng, 4), byte);
        break;
      default:
        changed.erase(at, 1);
        if (changed.empty()) changed = "0";
      }
    }
    run(which, changed);
  }
}

TEST(Mutate, Traces) {
  for (const auto &[format, text] : m4n_valid_traces()) {
    mutate(format, text);
    mutate(M4N_TRACE_AUTO, text);
  }
}

TEST(Mutate, Videos) {
  mutate(7, "{\"segment_duration_ms\": 3000, \"bitrates_kbps\": [230, 331], \"segment_sizes_bits\": [[8, "
            "16], [24, 32]]}");
  mutate(8, std::string("10\n20\n30\n") + '\0' + "100\n200\n300\n");
}

TEST(Mutate, Models) {
  std::ifstream in(M4N_SOURCE_DIR "/traces/models/fcc.json");
  std::stringstream text;
  text << in.rdbuf();
  ASSERT_GT(text.str().size(), 1000u);
  mutate(9, text.str());
  mutate(
      10,
      "{\"kind\": \"mamba4net video model 1\", \"name\": \"v\", \"videos\": 1, \"levels\": 2, \"chunks\": 3, "
      "\"chunk_s\": 4, \"sigma\": 0.2, \"shared\": 0.5, \"chunk\": 0, \"kbps\": [100, 200]}");
}

} // namespace
