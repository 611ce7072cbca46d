"""Candidates timed side by side: operators, token mixers, backbones, whole models."""
