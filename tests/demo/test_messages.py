from client.errors import Refused, explained
from demo import messages


def headline(refused: Refused) -> str:
    error = explained(refused, address="10.0.0.1:8001", image="a.jpg", timeout=1)
    said = messages.explained(error, "a.jpg")
    assert said["text"].endswith((". Try again in a moment.", " Then try again."))
    return said["headline"]


def test_a_server_that_says_when_to_come_again_is_not_away() -> None:
    busy = headline(Refused("UNAVAILABLE", "too many requests", retry_after=1.0))
    assert busy == "The Triton server has too much to do"
    assert headline(Refused("UNAVAILABLE", "Connection refused")) == "The Triton server is away"
