from tests.queue.fixtures import _no_thread_left, clock, queue, still

__all__ = ["_no_thread_left", "clock", "queue", "still"]
