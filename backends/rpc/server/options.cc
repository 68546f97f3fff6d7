#include "options.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "network.h"
#include "text.h"

namespace {

constexpr long LONGEST_S = 7 * 24 * 3600;

const char USAGE[] =
    "usage: gmpq-board --key KEY [--tracker HOST:PORT] [options]\n"
    "\n"
    "Runs programs for clients of TVM RPC, one client at a time, each in a process of its own.\n"
    "Whoever may connect may run any code as this user.\n"
    "\n"
    "  --key KEY            what clients ask for, as rpi4\n"
    "  --tracker HOST:PORT  where clients ask; without it they connect by the key itself\n"
    "  --host ADDRESS       address to listen on [127.0.0.1]; 0.0.0.0 is every network\n"
    "  --port PORT          port to listen on [9090]; 0 takes a free one\n"
    "  --allow-from A[,A]   serve these addresses only\n"
    "  --limit SECONDS      end a client after so long [600]\n"
    "  --work FOLDER        where clients' files are kept while they are served [/tmp]\n"
    "  --emulated NAME      tell clients that the processor NAME is emulated\n"
    "  --help               print this\n";

[[noreturn]] void refuse(const std::string &reason) {
  fprintf(stderr, "gmpq-board: %s (--help tells more)\n", reason.c_str());
  exit(2);
}

int number_of(const std::string &option, const std::string &value, long low, long high) {
  auto number = whole_number(value, low, high);
  if (!number)
    refuse(option + " " + value + ": give a whole number from " + std::to_string(low) + " to " +
           std::to_string(high));
  return static_cast<int>(*number);
}


void check_key(const std::string &key) {
  if (key.empty()) refuse("--key is missing: give what clients ask for, as rpi4");
  bool plain = key.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789._-") == std::string::npos;
  if (key.size() > 64 || !plain)
    refuse("--key " + key + ": give 1 to 64 letters, digits, dots, dashes or underscores");
}

void set_tracker(Options &options, const std::string &value) {
  size_t colon = value.rfind(':');
  if (colon == std::string::npos || colon == 0 || !whole_number(value.substr(colon + 1), 1, 65535))
    refuse("--tracker " + value + ": give HOST:PORT, as 192.168.0.2:9190");
  std::string host = value.substr(0, colon);
  bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (brackets) host = host.substr(1, host.size() - 2);
  bool numeric = canonical_address(host).find(':') != std::string::npos;
  if (brackets != numeric || (!numeric && host.find_first_of(":[]") != std::string::npos))
    refuse("--tracker " + value + ": give an IPv6 address in brackets, as [fd00::2]:9190");
  options.tracker_host = host;
  options.tracker_port = value.substr(colon + 1);
}

void set_allowed(Options &options, const std::string &value) {
  for (const std::string &written : split(value, ',')) {
    options.allowed.push_back(canonical_address(written));
    if (options.allowed.back().empty())
      refuse("--allow-from " + value + ": \"" + written + "\" is no address, as 192.168.0.3");
  }
}

void set_work(Options &options, const std::string &value) {
  struct stat found;
  if (stat(value.c_str(), &found) != 0 || !S_ISDIR(found.st_mode) || access(value.c_str(), W_OK))
    refuse("--work " + value + ": not a folder that can be written");
  options.work = value;
}

void set(Options &options, const std::string &option, const std::string &value) {
  if (option == "--key")
    options.key = value;
  else if (option == "--tracker")
    set_tracker(options, value);
  else if (option == "--host")
    options.host = value;
  else if (option == "--port")
    options.port = number_of(option, value, 0, 65535);
  else if (option == "--allow-from")
    set_allowed(options, value);
  else if (option == "--limit")
    options.limit_s = number_of(option, value, 1, LONGEST_S);
  else if (option == "--work")
    set_work(options, value);
  else if (option == "--emulated")
    options.emulated = value;
  else
    refuse(option + ": no such option");
}

}  // namespace

Options parse_options(int count, char **words) {
  Options options;
  for (int i = 1; i < count; i += 2) {
    std::string option = words[i];
    if (option == "--help") {
      fputs(USAGE, stdout);
      exit(0);
    }
    if (option.rfind("--", 0) != 0) refuse(option + ": not an option");
    if (i + 1 == count) refuse(option + ": its value is missing, or there is no such option");
    set(options, option, words[i + 1]);
  }
  check_key(options.key);
  if (canonical_address(options.host).empty())
    refuse("--host " + options.host + ": give an address of this machine, as 192.168.0.2");
  return options;
}
