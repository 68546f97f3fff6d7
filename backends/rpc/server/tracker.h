/* The board's place at a tracker of TVM, which hands boards to clients.
 *
 * The board gives the tracker a match key; the tracker gives it to one client, which shows it when
 * it connects. Messages are a length of four bytes and JSON; each is answered by one. A tracker
 * that ends, or answers nothing for a while, is dialed again until it is back. Nothing here waits.
 */
#pragma once

#include <deque>
#include <string>

#include "descriptor.h"
#include "options.h"

class Tracker {
 public:
  /* `port` is the one that the board listens on. Without a tracker the match key is the key. */
  Tracker(const Options &options, int port);

  int descriptor() const { return socket_.number(); }
  short events() const; /* that poll() waits for */
  double due_s() const; /* when advance() is to be called at the latest */

  /* Goes on after poll(); `ready` tells whether the descriptor has one of its events. */
  void advance(bool ready);

  /* What a client has to show; empty while the board is taken. */
  const std::string &match_key() const { return match_key_; }

  void take(const std::string &client);
  void release();

  /* Closes the connection in the process of a client. */
  void forget() { socket_.reset(); }

 private:
  enum class State { away, dialing, greeting, known };
  enum class Kind { plain, pending };
  struct Request {
    Kind kind;
    std::string json;
  };

  void dial_again();
  void greet();
  bool receive(); /* false when the other end is gone */
  void read_answers();
  void answered(const std::string &json);
  void pending(const std::string &json);
  void introduce();
  void offer(bool afresh);
  void ask(Kind kind, const std::string &json);
  void send_next();
  void lose(const std::string &reason);
  std::string name() const;

  const Options &options_;
  const int port_;
  Descriptor socket_;
  State state_ = State::away;
  std::string match_key_, client_, received_;
  std::deque<Request> requests_; /* the first has been sent, if `answer_due_s_` is not 0 */
  double answer_due_s_ = 0;      /* also of dialing and greeting */
  double next_s_ = 0;            /* when to dial, or to ask what is pending */
  double unseen_s_ = 0;          /* since when the tracker has given the key away, or 0 */
  bool told_ = false;            /* that the tracker is away */
};
