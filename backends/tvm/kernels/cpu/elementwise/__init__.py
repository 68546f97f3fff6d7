"""Operators other than layers."""
