"""Print a table of orders: `python sample.py 2000000 > orders.csv`."""

from __future__ import annotations

import random
import sys


def main(rows: int) -> None:
    chance = random.Random(rows)
    print("order,customer,amount")
    for order in range(rows):
        amount = "n/a" if chance.random() < 0.01 else f"{chance.randrange(1, 50000) / 100:.2f}"
        print(f"{order},customer-{chance.randrange(1000)},{amount}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
