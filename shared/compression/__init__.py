"""Codecs that turn a model update into bytes and back; numpy only, the same bytes on every CPU."""
