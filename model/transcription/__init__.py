"""Transcription: recordings of any length are cut at silences and decoded in batches; times of words, subtitles."""
