class Tracking:
    def __init__(self, ledger) -> None:
        self.uri = ""

    def start(self) -> None: ...
    def wake(self) -> None: ...
    def close(self, patience: float = 10.0) -> int:
        return 0
