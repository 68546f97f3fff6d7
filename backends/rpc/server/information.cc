#include "information.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <utility>
#include <vector>

#include "files.h"
#include "text.h"

namespace {

constexpr int PROTOCOL = 3; /* of the functions gmpq.board.* */
const std::string CPU0 = "/sys/devices/system/cpu/cpu0/cpufreq/";

/* ARM's numbers of its processors, "CPU part" in /proc/cpuinfo. */
const std::pair<const char *, const char *> PARTS[] = {
    {"0xd03", "Cortex-A53"}, {"0xd04", "Cortex-A35"},   {"0xd05", "Cortex-A55"},
    {"0xd07", "Cortex-A57"}, {"0xd08", "Cortex-A72"},   {"0xd09", "Cortex-A73"},
    {"0xd0a", "Cortex-A75"}, {"0xd0b", "Cortex-A76"},   {"0xd0c", "Neoverse-N1"},
    {"0xd0d", "Cortex-A77"}, {"0xd40", "Neoverse-V1"},  {"0xd41", "Cortex-A78"},
    {"0xd42", "Cortex-A78AE"}, {"0xd46", "Cortex-A510"}, {"0xd49", "Neoverse-N2"},
    {"0xd4f", "Neoverse-V2"},
};

std::string line_of(const std::string &path) {
  std::string text = read_text(path);
  return trimmed(text.substr(0, text.find_first_of(std::string("\n\0", 2))));
}

/* Returns the value of the first line "name : value" in a file. */
std::string field(const std::string &path, const std::string &name) {
  for (const std::string &line : split(read_text(path), '\n')) {
    size_t colon = line.find(':');
    if (colon != std::string::npos && trimmed(line.substr(0, colon)) == name)
      return trimmed(line.substr(colon + 1));
  }
  return "";
}

std::string processor() {
  std::string name = field("/proc/cpuinfo", "model name");
  if (!name.empty()) return name;
  std::string part = field("/proc/cpuinfo", "CPU part");
  for (const auto &[number, known] : PARTS)
    if (part == number) return known;
  return part.empty() ? "" : "ARM part " + part;
}

/* Returns the instruction sets of the processor as Linux names them, on ARM and on x86. */
std::string features() {
  std::string names = field("/proc/cpuinfo", "Features");
  return names.empty() ? field("/proc/cpuinfo", "flags") : names;
}

std::string text_or_null(const std::string &text) { return text.empty() ? "null" : quoted(text); }

/* Returns the number at the start of `text`, over `unit`, as JSON. */
std::string number_or_null(const std::string &text, double unit) {
  if (text.empty() || !isdigit(static_cast<unsigned char>(text[0]))) return "null";
  std::string digits = std::to_string(std::strtod(text.c_str(), nullptr) / unit);
  return digits.substr(0, digits.find('.') + 2);
}

utsname system_names() {
  utsname names{};
  uname(&names);
  return names;
}

}  // namespace

std::string information(const std::string &emulated) {
  bool real = emulated.empty(); /* an emulator shows the files of the machine that it runs on */
  auto read = [&](const std::string &path) { return real ? line_of(path) : ""; };
  const utsname names = system_names();
  const std::vector<std::pair<const char *, std::string>> fields = {
      {"protocol", std::to_string(PROTOCOL)},
      {"emulated", real ? "false" : "true"},
      {"machine", text_or_null(names.machine)},
      {"model", text_or_null(read("/proc/device-tree/model"))},
      {"processor", text_or_null(real ? processor() : emulated)},
      {"features", text_or_null(real ? features() : "")},
      {"cores", std::to_string(sysconf(_SC_NPROCESSORS_ONLN))},
      {"governor", text_or_null(read(CPU0 + "scaling_governor"))},
      {"frequency_mhz", number_or_null(read(CPU0 + "scaling_cur_freq"), 1e3)},
      {"highest_mhz", number_or_null(read(CPU0 + "cpuinfo_max_freq"), 1e3)},
      {"temperature_c", number_or_null(read("/sys/class/thermal/thermal_zone0/temp"), 1e3)},
      {"throttled", text_or_null(read("/sys/devices/platform/soc/soc:firmware/get_throttled"))},
      {"memory_mb", number_or_null(field("/proc/meminfo", "MemTotal"), 1e3)},
      {"kernel", text_or_null(std::string(names.sysname) + " " + names.release)},
  };
  std::string json = "{";
  for (const auto &[name, value] : fields)
    json += (json.size() > 1 ? ", " : "") + quoted(name) + ": " + value;
  return json + "}";
}
