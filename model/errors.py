"""Errors that a user can act on. Each message is one line: what was given, what is allowed, what to change."""


class UserError(Exception):
    """The input is wrong and only the user can correct it; the command line prints the message and exits with 2."""


class NonFiniteLossError(Exception):
    """The loss or the gradient norm is no longer a finite number; no optimiser step was taken with it."""


class OutOfMemoryError(Exception):
    """The model does not fit this machine's memory, however its batches are split; smaller sizes may fit."""


class SplitFurtherError(Exception):
    """A step of several workers ran out of memory, and its batches can be split further.

    It is written down in the run's folder that they are: the same training, started again, goes on from its checkpoint.
    """


class StalledError(Exception):
    """A training made no progress for too long; the message says where it was. Its last checkpoint is whole."""


class ReadersLostError(Exception):
    """Processes that read a training's data were lost one after the other. Its last checkpoint is whole."""


class TrainingInterruptedError(Exception):
    """Training stopped because it was asked to; its checkpoint is written, and another call continues from there.

    The message says where: "after step 4 of epoch 1".
    """
