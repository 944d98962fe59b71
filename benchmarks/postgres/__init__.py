"""The engine for several machines: floors, rates, latencies and costs on a PostgreSQL server of the benchmark's own."""
