"""Boards: a package that makes one serve, and the bench that visits them."""
