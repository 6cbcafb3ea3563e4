"""How a stage that failed is told of."""


class StageError(RuntimeError):
    """A stage that failed; `__cause__` is what the stage raised."""

    def __init__(self, stage: str, cause: BaseException):
        super().__init__(f"Stage {stage} failed: {cause}")
        self.stage = stage
        self.__cause__ = cause
