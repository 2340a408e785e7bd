"""Comparing and syncing MLflow's runs on command: `decred-study track`."""

from __future__ import annotations

import time
from pathlib import Path

from model.errors import UserError
from study.config.tracking_uri import mask_uri
from study.ledger.ledger import Ledger
from study.tracking.mlflow_store import CREDENTIALS, brief, check_uri, refuses_credentials
from study.tracking.sync import Sync

_TRIES, _PAUSE = 3, 0.5  # seconds


def count_outdated(ledger: Ledger) -> int:
    """How many runs MLflow does not have as the ledger has them. A UserError where it does not answer."""
    sync = Sync(ledger)
    check_uri(sync.uri)
    try:
        return sync.compare()
    except UserError:
        raise
    except Exception as error:  # MLflow, its database and its HTTP client each raise their own
        raise UserError(
            f"tracking {mask_uri(sync.uri)} cannot be read ({brief(error, sync.uri)}); correct that and try again"
        ) from None


def flush(ledger: Ledger, verify: bool = False) -> int:
    """Bring MLflow's runs up to date, in turn with a study that runs; how many were sent.

    `verify`: compare every run point by point, not those alone that carry another fingerprint. A UserError where the
    store does not take them.
    """
    sync = Sync(ledger)
    check_uri(sync.uri)
    shown, count, tries = mask_uri(sync.uri), 0, 0
    while True:
        try:
            sent = sync.sync_batch(verify)
        except UserError:
            raise
        except Exception as error:  # MLflow, its database and its HTTP client each raise their own
            if refuses_credentials(error):
                raise UserError(
                    f"tracking {shown} refuses the credentials ({brief(error, sync.uri)}); {CREDENTIALS}"
                ) from None
            tries += 1
            if tries == _TRIES:
                raise UserError(
                    f"tracking {shown} does not take the runs ({brief(error, sync.uri)}), "
                    f"{sync.count_outdated(ledger.trials)} are left; correct that and repeat the command"
                ) from None
            time.sleep(_PAUSE * tries)
            continue
        tries, count, verify = 0, count + sent, False
        if not sent:
            return count


def describe_outdated(outdated: int, uri: str, study: Path, refused: bool = False, compared: bool = True) -> str:
    """The line on runs that are not up to date; empty where there is none.

    `refused`: because of the credentials. `compared`: whether MLflow's runs were ever read.
    """
    if not outdated:
        return ""
    noun, verb, them = ("1 run", "is", "it") if outdated == 1 else (f"{outdated} runs", "are", "them")
    state = f"{verb} not" if compared else "may not be"
    why = ", which refuses the credentials" if refused else "" if compared else ", which did not answer"
    first = f"{CREDENTIALS}, then " if refused else ""
    command = f"decred-study track {study} --flush"
    return f"{noun} {state} up to date in MLflow at {mask_uri(uri)}{why}; {first}send {them} with: {command}"
