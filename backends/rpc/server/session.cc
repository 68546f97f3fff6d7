#include "session.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "call.h"
#include "files.h"
#include "information.h"
#include "program.h"
#include "text.h"

namespace {

/* Functions that TVM calls get no data of their own: a session is a process. */
std::string session_folder, emulated_processor;

void work_path(const Arguments &given, Result &result) {
  result.text(path_inside(session_folder, std::string(given.text(0))));
}

void load_module(const Arguments &given, Result &result) {
  std::string path = path_inside(session_folder, std::string(given.text(0)));
  result.value(call("ffi.ModuleLoadFromFile", {text_value(path)}));
}

void tell_information(const Arguments &, Result &result) {
  result.text(information(emulated_processor));
}

/* Makes the process one that dies with the server, and that all its own processes die with. */
void detach(pid_t server) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != server) _exit(EXIT_FAILURE); /* it was faster */
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  for (int number : {SIGTERM, SIGINT, SIGCHLD}) signal(number, SIG_DFL);
  sigset_t empty;
  sigemptyset(&empty);
  sigprocmask(SIG_SETMASK, &empty, nullptr);
  Descriptor nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
  dup2(nothing.number(), STDIN_FILENO);
}

/* Ends the process, and lets the server know that no program has. */
[[noreturn]] void leave(const Descriptor &farewell, int code) {
  while (write(farewell.number(), "", 1) < 0 && errno == EINTR) {
  }
  _exit(code);
}

}  // namespace

void serve_client(const Descriptor &client, const std::string &folder, const Options &options,
                  pid_t server, const Descriptor &farewell) {
  detach(server);
  session_folder = folder;
  emulated_processor = options.emulated;
  try {
    if (chdir(folder.c_str()) != 0) throw Refusal(folder + ": cannot be entered");
    publish("tvm.rpc.server.workpath", work_path);
    publish("tvm.rpc.server.load_module", load_module);
    publish("gmpq.board.information", tell_information);
    publish_program(folder);
    call("rpc.ServerLoop", {integer_value(client.number())});
  } catch (const Refusal &error) {
    std::string reason = error.what();
    log_line("client broke off: " + cited(reason.substr(0, reason.find('\n'))));
    leave(farewell, EXIT_FAILURE);
  }
  leave(farewell, EXIT_SUCCESS);
}

void tell_client(const Descriptor &client, const std::string &message) {
  try {
    call("rpc.ReturnException", {integer_value(client.number()), text_value(message)});
  } catch (const Refusal &) {
    return; /* it has gone */
  }
}
