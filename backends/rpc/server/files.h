/* Small files of the system, and folders of clients. */
#pragma once

#include <cstddef>
#include <string>

#include "descriptor.h"

/* Returns the first `most` bytes of a file, or nothing where it cannot be read. */
std::string read_text(const std::string &path, size_t most = 1 << 16);

/* A client's folder; the lock, which ends with the server, says that it is in use. */
struct Folder {
  std::string path;
  Descriptor lock;
};

/* Returns a new folder in `parent`, or one without a path. */
Folder make_folder(const std::string &parent);

/* Removes a folder, whatever permissions a client has given to what is in it. */
void remove_folder(const std::string &path);

/* Removes the folders in `parent` that servers of this user left when they were killed. */
void remove_unused_folders(const std::string &parent);

/* Returns `name` inside of `folder`; throws Refusal if it leads out of it. */
std::string path_inside(const std::string &folder, const std::string &name);
