"""The error browser: what systems recognised of each utterance, aligned and counted; a page, tables, NIST's forms.

content    utterances with what each system recognised of them
systems    which systems a study, a run or files have
gathering  from hypotheses to content, by the one alignment that the metrics use
"""
