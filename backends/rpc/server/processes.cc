#include "processes.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "files.h"
#include "text.h"

namespace {

constexpr int ROUNDS = 200, ROUND_US = 5000;

struct Name {
  int number;
  const char *name;
};

const Name NAMES[] = {
    {SIGILL, "ILL"},   {SIGABRT, "ABRT"}, {SIGBUS, "BUS"},   {SIGFPE, "FPE"}, {SIGKILL, "KILL"},
    {SIGSEGV, "SEGV"}, {SIGTERM, "TERM"}, {SIGXCPU, "XCPU"}, {SIGSYS, "SYS"}, {SIGTRAP, "TRAP"},
};

}  // namespace

void end_group(pid_t leader) {
  if (kill(-leader, SIGKILL) != 0) kill(leader, SIGKILL); /* it may not lead one yet */
}

void end_processes() {
  std::string self = std::to_string(getpid());
  const std::string children = "/proc/" + self + "/task/" + self + "/children";
  for (int round = 0; round < ROUNDS; round++) { /* an orphan becomes a child of this process */
    for (const std::string &number : split(trimmed(read_text(children)), ' '))
      if (auto process = whole_number(number, 2, 1 << 30))
        kill(static_cast<pid_t>(*process), SIGKILL);
    pid_t reaped;
    while ((reaped = waitpid(-1, nullptr, WNOHANG)) > 0) {
    }
    if (reaped < 0) return;
    usleep(ROUND_US);
  }
  log_line("processes of the client do not end");
}

std::string signal_name(int number) {
  for (const Name &each : NAMES)
    if (each.number == number) return each.name;
  return std::to_string(number);
}
