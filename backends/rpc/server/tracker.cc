#include "tracker.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <limits>
#include <random>

#include "clock.h"
#include "network.h"
#include "text.h"

namespace {

constexpr int MAGIC = 0x2F271;
constexpr int SUCCESS = 0, PUT = 3, UPDATE = 5, PENDING = 7; /* codes of tvm/rpc/base.py */
constexpr int LONGEST = 1 << 20;
constexpr double DIAL_AGAIN_S = 1, ASK_AGAIN_S = 2, ANSWER_S = 10;
constexpr double COME_S = 6; /* a client that has the key for so long without coming never will */
constexpr double NEVER = std::numeric_limits<double>::infinity();

}  // namespace

Tracker::Tracker(const Options &options, int port) : options_(options), port_(port) { release(); }

short Tracker::events() const { return state_ == State::dialing ? POLLOUT : POLLIN; }

double Tracker::due_s() const {
  if (options_.tracker_host.empty()) return NEVER;
  if (answer_due_s_ != 0) return answer_due_s_;
  return next_s_;
}

void Tracker::advance(bool ready) {
  if (options_.tracker_host.empty()) return;
  double now = now_s();
  if (ready && state_ == State::dialing)
    greet();
  else if (ready && state_ != State::away && !receive())
    lose("has gone");
  if (answer_due_s_ != 0 && now > answer_due_s_) lose("does not answer");
  if (state_ == State::away && now >= next_s_) dial_again();
  if (state_ == State::known && answer_due_s_ == 0 && now >= next_s_) {
    next_s_ = now + ASK_AGAIN_S;
    ask(Kind::pending, "[" + std::to_string(PENDING) + "]");
  }
}

void Tracker::take(const std::string &client) {
  match_key_.clear();
  client_ = client;
  if (state_ == State::known) introduce();
}

void Tracker::release() {
  client_.clear();
  if (options_.tracker_host.empty()) {
    match_key_ = options_.key;
    return;
  }
  if (state_ == State::known) introduce();
  offer(true);
}

void Tracker::dial_again() {
  socket_ = dial(options_.tracker_host, options_.tracker_port);
  if (!socket_.open()) {
    lose("cannot be reached");
    return;
  }
  state_ = State::dialing;
  answer_due_s_ = now_s() + ANSWER_S;
}

void Tracker::greet() {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(socket_.number(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0 || !send_all(socket_, number_bytes(MAGIC))) {
    lose("cannot be reached");
    return;
  }
  state_ = State::greeting;
  answer_due_s_ = now_s() + ANSWER_S;
}

bool Tracker::receive() {
  char bytes[4096];
  ssize_t count = recv(socket_.number(), bytes, sizeof bytes, 0);
  if (count <= 0) return count < 0 && (errno == EAGAIN || errno == EINTR);
  received_.append(bytes, static_cast<size_t>(count));
  read_answers();
  return true;
}

void Tracker::read_answers() {
  while (received_.size() >= 4) {
    int number = number_in(received_, 0);
    if (state_ == State::greeting) {
      if (number != MAGIC) return lose("is no tracker of TVM");
      received_.erase(0, 4);
      state_ = State::known;
      answer_due_s_ = 0;
      told_ = false;
      log_line(name() + " knows this board as " + options_.key);
      introduce();
      if (client_.empty()) offer(false);
      continue;
    }
    if (number < 1 || number > LONGEST) return lose("is no tracker of TVM");
    size_t size = static_cast<size_t>(number);
    if (received_.size() - 4 < size) return;
    std::string json = received_.substr(4, size);
    received_.erase(0, 4 + size);
    answered(json);
    if (state_ != State::known) return;
  }
}

void Tracker::answered(const std::string &json) {
  if (requests_.empty() || answer_due_s_ == 0) return lose("speaks unasked");
  Kind kind = requests_.front().kind;
  requests_.pop_front();
  answer_due_s_ = 0;
  if (kind == Kind::plain && json != std::to_string(SUCCESS)) return lose("refuses: " + cited(json));
  if (kind == Kind::pending) pending(json);
  send_next();
}

void Tracker::pending(const std::string &json) {
  bool seen = match_key_.empty() || json.find(quoted(match_key_)) != std::string::npos;
  if (seen)
    unseen_s_ = 0;
  else if (unseen_s_ == 0)
    unseen_s_ = now_s();
  else if (now_s() - unseen_s_ > COME_S)
    offer(true);
}

void Tracker::introduce() {
  const std::string client = client_.empty() ? "null" : quoted(client_);
  ask(Kind::plain, "[" + std::to_string(UPDATE) + ", {\"key\": " +
                       quoted("server:" + options_.key) + ", \"addr\": [null, " +
                       std::to_string(port_) + "], \"client\": " + client + "}]");
}

/* Puts the match key into the tracker's hands; only a fresh one after a client has used it. */
void Tracker::offer(bool afresh) {
  std::random_device random;
  if (afresh) match_key_ = options_.key + ":" + std::to_string(random()) + std::to_string(random());
  unseen_s_ = 0;
  if (state_ == State::known)
    ask(Kind::plain, "[" + std::to_string(PUT) + ", " + quoted(options_.key) + ", [" +
                         std::to_string(port_) + ", " + quoted(match_key_) + "], null]");
}

void Tracker::ask(Kind kind, const std::string &json) {
  requests_.push_back({kind, json});
  if (answer_due_s_ == 0) send_next();
}

void Tracker::send_next() {
  if (requests_.empty()) return;
  const std::string &json = requests_.front().json;
  if (!send_all(socket_, number_bytes(static_cast<int>(json.size())) + json))
    return lose("takes no messages");
  answer_due_s_ = now_s() + ANSWER_S;
}

void Tracker::lose(const std::string &reason) {
  if (!told_) log_line(name() + " " + reason + ": dialing until it is back");
  told_ = true;
  socket_.reset();
  state_ = State::away;
  requests_.clear();
  received_.clear();
  answer_due_s_ = 0;
  next_s_ = now_s() + DIAL_AGAIN_S;
}

std::string Tracker::name() const {
  return "tracker " + place(options_.tracker_host, options_.tracker_port);
}
