/* The board's server: waits for clients, checks what they show, and watches over their processes.
 *
 * One client is served at a time, since a second one would falsify what the first one measures. The
 * loop never waits for anybody: what a client may do wrong happens in the process that serves it.
 */
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <list>
#include <optional>
#include <string>

#include "descriptor.h"
#include "files.h"
#include "options.h"
#include "tracker.h"

class Server {
 public:
  explicit Server(const Options &options); /* throws std::runtime_error */

  /* Serves until SIGTERM or SIGINT; then ends all sessions. */
  void run();

 private:
  struct Guest { /* has connected, and has not shown its key yet */
    Descriptor socket;
    std::string address, peer, received;
    double due_s;
  };
  struct Session {
    Descriptor client, farewell; /* farewell can be read if the session ended by itself */
    std::string peer;
    Folder folder;
    pid_t process;
    double start_s, due_s, limit_s;
    bool expired;
  };

  void wait();
  double due_s() const;
  void welcome();
  void admit(Guest guest);
  bool hear(Guest &guest); /* false when nothing more is expected of the guest */
  bool judge(Guest &guest, const std::string &words);
  void start(Guest &guest, double limit_s);
  void watch();
  void finish(int status, bool by_signal);
  std::string ending(int status, bool by_signal, bool by_itself) const;

  const Options &options_;
  const sigset_t unblocked_;
  Descriptor listener_;
  Tracker tracker_;
  std::list<Guest> guests_;
  std::optional<Session> session_;
};
