"""Replies in Flower's form to a strategy's messages: errors with their codes, and scores."""

from flwr.app import Error, Message, MetricRecord, RecordDict

from shared.messages import Evaluated

ERROR_LOST, ERROR_REFUSED, ERROR_TROUBLE, ERROR_LATE = 1001, 1002, 1003, 1004


def failure(device: str, message: Message, code: int, reason: str) -> Message:
    """The reply of a device that went away, was refused, could not do it, or was late."""
    return Message(Error(code, f"{device}: {reason}"), reply_to=message)


def evaluation(device: str, message: Message, event: Evaluated) -> Message:
    """The reply that a strategy reads a score from; an error where the score cannot be true."""
    figures: dict[str, int | float] = {"num-examples": event.examples, "loss": event.loss}
    if event.correct is not None:
        if event.correct > event.examples:
            reason = f"claims {event.correct} correct of {event.examples} examples"
            return failure(device, message, ERROR_REFUSED, reason)
        figures["correct"] = event.correct
    return Message(RecordDict({"metrics": MetricRecord({**figures})}), reply_to=message)
