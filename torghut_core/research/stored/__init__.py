"""Stored signals through the strategies again: decisions and nothing else, no order is made."""
