"""Measurements that ``make bench`` runs: how fast, and how good in a minute."""
