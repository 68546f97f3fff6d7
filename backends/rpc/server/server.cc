#include "server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "clock.h"
#include "files.h"
#include "network.h"
#include "processes.h"
#include "session.h"
#include "text.h"

namespace {

constexpr int MAGIC = 0xFF271, MISMATCH = MAGIC + 2; /* tvm/rpc/base.py */
constexpr size_t HEADER = 8, LONGEST_WORDS = 512, MOST_GUESTS = 32;
constexpr double SHOW_KEY_S = 10;

volatile sig_atomic_t stopping = 0; /* signal handlers have nowhere else to write */

void stop(int) { stopping = 1; }
void wake(int) {}

void handle(int number, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigaction(number, &action, nullptr);
}

sigset_t block_signals() {
  sigset_t blocked, before;
  sigemptyset(&blocked);
  for (int number : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&blocked, number);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  handle(SIGTERM, stop);
  handle(SIGINT, stop);
  handle(SIGCHLD, wake);
  handle(SIGPIPE, SIG_IGN);
  return before;
}

/* Returns the seconds that a client asks for: "client:KEY -timeout=60". */
double asked_s(const std::vector<std::string> &words) {
  const std::string option = "-timeout=";
  for (const std::string &word : words) {
    if (word.rfind(option, 0) != 0) continue;
    double seconds = std::strtod(word.c_str() + option.size(), nullptr);
    if (seconds > 0) return seconds;
  }
  return HUGE_VAL;
}

std::string seconds(double number) {
  std::string digits = std::to_string(number);
  return digits.substr(0, digits.find('.') + 2) + " s";
}

}  // namespace

Server::Server(const Options &options)
    : options_(options),
      unblocked_(block_signals()), /* before the log says that the server is there */
      listener_(listen_on(options.host, options.port)),
      tracker_(options, port_of(listener_)) {
  prctl(PR_SET_CHILD_SUBREAPER, 1); /* so that what clients leave behind is found */
  remove_unused_folders(options.work);
  log_line("listening on " + place(options.host, std::to_string(port_of(listener_))) + " as " +
           options.key);
  if (options.host.rfind("127.", 0) != 0 && options.host != "::1" && options.allowed.empty())
    log_line("whoever can connect may run any code here: --allow-from names who may");
}

void Server::run() {
  while (!stopping) {
    wait();
    watch();
  }
  if (session_) {
    end_processes();
    remove_folder(session_->folder.path);
    log_line(session_->peer + " ended: the server stops");
  }
  log_line("stopped");
}

void Server::wait() {
  /* Without a tracker, clients wait here until the board is free. */
  bool open = !session_ || !options_.tracker_host.empty();
  std::vector<pollfd> watched = {{open ? listener_.number() : -1, POLLIN, 0},
                                 {tracker_.descriptor(), tracker_.events(), 0}};
  for (const Guest &guest : guests_) watched.push_back({guest.socket.number(), POLLIN, 0});
  double left_s = std::clamp(due_s() - now_s(), 0.0, 3600.0);
  timespec limit{static_cast<time_t>(left_s), static_cast<long>(std::fmod(left_s, 1) * 1e9)};
  if (ppoll(watched.data(), watched.size(), &limit, &unblocked_) < 0) {
    for (pollfd &each : watched) each.revents = 0; /* a signal */
  }
  size_t index = 2;
  double now = now_s();
  guests_.remove_if([&](Guest &guest) {
    bool ready = watched[index++].revents != 0;
    if (!ready && now > guest.due_s) log_line(guest.peer + " refused: shows no key");
    return ready ? !hear(guest) : now > guest.due_s;
  });
  if (watched[0].revents != 0) welcome();
  tracker_.advance(watched[1].revents != 0);
}

double Server::due_s() const {
  double due = tracker_.due_s();
  for (const Guest &guest : guests_) due = std::min(due, guest.due_s);
  return session_ && !session_->expired ? std::min(due, session_->due_s) : due;
}

void Server::welcome() {
  Guest guest;
  int port = 0;
  guest.socket = accept_client(listener_, guest.address, port);
  if (!guest.socket.open()) return;
  guest.peer = place(guest.address, std::to_string(port));
  guest.due_s = now_s() + SHOW_KEY_S;
  const auto &allowed = options_.allowed;
  bool listed = std::find(allowed.begin(), allowed.end(), guest.address) != allowed.end();
  if (!allowed.empty() && !listed)
    log_line(guest.peer + " refused: not in --allow-from");
  else
    admit(std::move(guest));
}

/* Lets a guest wait; the one that has said nothing for the longest time makes room. */
void Server::admit(Guest guest) {
  if (guests_.size() == MOST_GUESTS) {
    auto silent = std::find_if(guests_.begin(), guests_.end(),
                               [](const Guest &each) { return each.received.empty(); });
    if (silent == guests_.end()) silent = guests_.begin();
    log_line(silent->peer + " refused: shows no key while others wait");
    guests_.erase(silent);
  }
  guests_.push_back(std::move(guest));
}

bool Server::hear(Guest &guest) {
  size_t wanted = HEADER;
  if (guest.received.size() >= HEADER) wanted += static_cast<size_t>(number_in(guest.received, 4));
  char bytes[LONGEST_WORDS];
  size_t missing = wanted - guest.received.size();
  ssize_t count = recv(guest.socket.number(), bytes, std::min(missing, sizeof bytes), 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (count <= 0) return false;
  guest.received.append(bytes, static_cast<size_t>(count));
  if (guest.received.size() == HEADER) {
    int size = number_in(guest.received, 4);
    bool short_enough = size > 0 && size <= int{LONGEST_WORDS};
    if (number_in(guest.received, 0) == MAGIC && short_enough) return true;
    log_line(guest.peer + " refused: is no client of TVM RPC");
    return false;
  }
  if (guest.received.size() < wanted || wanted == HEADER) return true;
  return judge(guest, guest.received.substr(HEADER));
}

bool Server::judge(Guest &guest, const std::string &text) {
  std::vector<std::string> words = split(text, ' ');
  const std::string &key = tracker_.match_key();
  if (session_ || key.empty() || words[0] != "client:" + key) {
    send_all(guest.socket, number_bytes(MISMATCH));
    log_line(guest.peer + " refused: shows a key that is not, or no longer, this board's");
    return false;
  }
  std::string name = "server:" + options_.key;
  std::string size = number_bytes(static_cast<int>(name.size()));
  if (send_all(guest.socket, number_bytes(MAGIC) + size + name))
    start(guest, std::min(asked_s(words), double(options_.limit_s)));
  return false;
}

void Server::start(Guest &guest, double limit_s) {
  Folder folder = make_folder(options_.work);
  int ends[2];
  if (folder.path.empty() || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    log_line(guest.peer + " refused: no folder can be made in " + options_.work);
    if (!folder.path.empty()) remove_folder(folder.path);
    return;
  }
  Descriptor heard(ends[0]), farewell(ends[1]);
  make_waiting(guest.socket);
  const pid_t server = getpid();
  pid_t process = fork();
  if (process == 0) {
    Descriptor client = std::move(guest.socket);
    listener_.reset();
    guests_.clear();
    tracker_.forget();
    serve_client(client, folder.path, options_, server, farewell);
  }
  if (process < 0) {
    log_line(guest.peer + " refused: no process for it: " + strerror(errno));
    remove_folder(folder.path);
    return;
  }
  double now = now_s();
  log_line(guest.peer + " served by process " + std::to_string(process) + ", for at most " +
           seconds(limit_s));
  session_ = Session{std::move(guest.socket), std::move(heard), guest.peer, std::move(folder),
                     process, now, now + limit_s, limit_s, false};
  tracker_.take(guest.peer);
}

void Server::watch() {
  if (!session_) return;
  if (!session_->expired && now_s() > session_->due_s) {
    session_->expired = true;
    end_group(session_->process);
  }
  siginfo_t info{};
  const auto process = static_cast<id_t>(session_->process);
  if (waitid(P_PID, process, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0)
    finish(info.si_status, info.si_code != CLD_EXITED);
}

void Server::finish(int status, bool by_signal) {
  end_group(session_->process); /* while its number is not anybody else's */
  end_processes();
  char byte;
  bool by_itself = read(session_->farewell.number(), &byte, 1) == 1;
  std::string how = ending(status, by_signal, by_itself);
  make_hasty(session_->client); /* it may have stopped reading */
  if (session_->expired)
    tell_client(session_->client, "RPCSessionTimeoutError: " + how);
  else if (!by_itself)
    tell_client(session_->client, how);
  remove_folder(session_->folder.path);
  log_line(session_->peer + " ended after " + seconds(now_s() - session_->start_s) + ": " + how);
  session_.reset();
  tracker_.release();
}

std::string Server::ending(int status, bool by_signal, bool by_itself) const {
  if (session_->expired) return "the board's limit of " + seconds(session_->limit_s) + " is over";
  if (!by_signal && !by_itself)
    return "the client's program called exit(" + std::to_string(status) + ")";
  if (!by_signal) return status == 0 ? "done" : "exit code " + std::to_string(status);
  std::string name = "SIG" + signal_name(status);
  if (status == SIGILL)
    return name + ": the program has an instruction that this processor lacks: compile for "
                  "its target";
  return name + ": the client's program crashed on the board";
}
