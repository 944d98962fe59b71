from tests.engines import _engine, pytest_generate_tests
from tests.queue.fixtures import _no_thread_left, clock, queue, still

__all__ = ["_engine", "_no_thread_left", "clock", "pytest_generate_tests", "queue", "still"]
