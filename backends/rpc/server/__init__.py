"""The server that runs on boards: C++, linked to the runtime libraries of TVM's wheels."""
